/**
 * A server that has been replaced goes over to its successor by itself, as soon as that is there: after a planned
 * hand-over, after a crash in the middle of a rejoining, or because it was set up so. What it wants is durable.
 */
import { HotspareError } from '../os/errors.ts'
import type { ServerParts } from './parts.ts'

const firstDelayMs = 200
const delayMsMax = 10_000
/** What passes by itself: the other one is not there, or not promoted yet. */
const patience = ['peer-away', 'link-broken', 'epoch-old', 'timed-out']

export class RejoinLater {
  readonly #parts: ServerParts
  readonly #rejoin: (upstream: string) => Promise<unknown>
  #upstream: string | undefined
  #running: Promise<void> | undefined
  #hurry = new AbortController()
  #told: string | undefined

  constructor(parts: ServerParts, rejoin: (upstream: string) => Promise<unknown>) {
    this.#parts = parts
    this.#rejoin = rejoin
  }

  /** Durable when it resolves; the rest goes on by itself. */
  async begin(upstream: string): Promise<void> {
    const { state } = this.#parts
    if (state.value.rejoining?.upstream !== upstream)
      await state.update(before => ({ ...before, rejoining: { ...before.rejoining, upstream } }))
    this.#upstream = upstream
    this.#running ??= this.#run().finally(() => {
      this.#running = undefined
    })
  }

  /** Something may have changed with that peer. */
  poke(peer: string): void {
    if (peer === this.#upstream) this.#hurry.abort()
  }

  done(): void {
    this.#upstream = undefined
    this.#hurry.abort()
  }

  async idle(): Promise<void> {
    this.#hurry.abort()
    await this.#running
  }

  async #run(): Promise<void> {
    const { machine, signal, state } = this.#parts
    for (let delayMs = firstDelayMs; ; delayMs = Math.min(delayMs * 2, delayMsMax)) {
      const upstream = this.#upstream
      const isWanted = state.value.rejoining?.upstream === upstream
      if (upstream === undefined || !isWanted || signal.aborted) return
      this.#hurry = new AbortController()
      try {
        await this.#rejoin(upstream)
        this.#told = undefined
        return
      } catch (error) {
        if (signal.aborted) return
        this.#tell(error)
      }
      await machine.clock.sleep(delayMs, AbortSignal.any([signal, this.#hurry.signal]))
    }
  }

  /** The same fault is told once. */
  #tell(error: unknown): void {
    if (error instanceof HotspareError && patience.includes(error.code)) return
    const text = error instanceof Error ? error.message : String(error)
    if (text === this.#told) return
    this.#told = text
    this.#parts.tell(
      'error',
      error instanceof HotspareError ? error.code : 'bug',
      `Not rejoined yet: ${text}`,
    )
  }
}

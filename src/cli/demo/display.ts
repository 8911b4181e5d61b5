import { formatBytes, formatCount, formatDuration } from '../format.ts'
import { styled } from '../output.ts'
import type { FollowedStore } from './followed-store.ts'

const redrawMs = 200
const plainLineMs = 2_000

/** The figures of all stores, live: drawn in place on a terminal, else a line every two seconds. */
export class Display {
  readonly #stores: readonly FollowedStore[]
  readonly #startedMs = performance.now()
  readonly #terminal = process.stdout.isTTY === true
  readonly #timer: NodeJS.Timeout
  #drawn = 0

  constructor(stores: readonly FollowedStore[]) {
    this.#stores = stores
    this.#timer = setInterval(() => this.#draw(), this.#terminal ? redrawMs : plainLineMs)
  }

  /** A line of what happens, above the figures. */
  say(text: string): void {
    this.#erase()
    process.stdout.write(`${styled('dim', this.#elapsed().padStart(6))}  ${text}\n`)
    if (this.#terminal) this.#draw()
  }

  close(): void {
    clearInterval(this.#timer)
    this.#erase()
  }

  #elapsed(): string {
    return `${((performance.now() - this.#startedMs) / 1_000).toFixed(1)} s`
  }

  #draw(): void {
    this.#erase()
    const columns = process.stdout.columns > 0 ? process.stdout.columns : 100
    const lines = this.#stores.map(store => `        ${describe(store)}`)
    for (const line of lines) process.stdout.write(`${this.#terminal ? line.slice(0, columns - 1) : line}\n`)
    this.#drawn = lines.length
  }

  #erase(): void {
    if (this.#terminal && this.#drawn > 0) process.stdout.write(`\x1b[${this.#drawn}A\x1b[J`)
    this.#drawn = 0
  }
}

function describe(store: FollowedStore): string {
  const { committed, bytes, lagMs, following, live } = store.figures
  const lag = lagMs === undefined ? '' : `, lag ${formatDuration(lagMs)}`
  const copy = live
    ? `live, ${formatBytes(bytes)} taken${lag}`
    : following
      ? 'making the copy'
      : 'no follower'
  return `${store.label.padEnd(10)} ${formatCount(committed, store.unit).padEnd(22)} copy: ${copy}`
}

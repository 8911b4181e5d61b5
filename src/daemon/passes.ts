/**
 * Where passes of a source are asked for: by a mirror in this process, or over the control socket of a follower. One client
 * at a time; what it asks for is served by `GatedSource`, which the pump reads from.
 */
import { HotspareError } from '../os/errors.ts'
import type { Source } from '../stream/source.ts'
import { type Gate, GatedSource, type HoldableSource } from './gated-source.ts'
import { type HeldPass, HeldRequest, PassAbandoned, type PassReport, Request } from './pass-request.ts'
import { aborted } from './step.ts'

export interface PassClient {
  /** A pass that begins after the call; resolves when it is durable. Then no other begins until `hold` or `end`. */
  pass(): Promise<PassReport>
  hold(): HeldPass
  /** All that was asked for and is not done is abandoned. */
  end(): void
}

export class PassGate implements Gate {
  #attached = false
  #unsupported = false
  #fault: HotspareError | undefined
  #client: Client | undefined
  #wake: (() => void) | undefined

  /** One client at a time. Paths in `ignore` are kept from the sink while it is there: a flag file of ours. */
  connect(ignore: readonly string[] = []): PassClient {
    if (this.#client !== undefined) {
      throw new HotspareError('target-busy', 'Another mirror of this copy is at work. Wait for its end.')
    }
    const client = new Client(this, new Set(ignore))
    this.#client = client
    return client
  }

  /** What the pump is to read from, for one attempt. */
  attach(source: Source): Source {
    this.#fault = undefined
    this.#attached = true
    if (source.hold === undefined) {
      this.#unsupported = true
      return source
    }
    return new GatedSource(this, source as HoldableSource)
  }

  /** An attempt failed; what was asked for fails with it, and so does what is asked for before the next. */
  failed(error: unknown): void {
    const abandoned = error instanceof PassAbandoned
    const fault =
      error instanceof HotspareError
        ? error
        : new HotspareError('io-error', error instanceof Error ? error.message : String(error), {
            cause: error,
          })
    if (!abandoned) this.#fault = fault
    this.#attached = false
    this.#client?.fail(abandoned ? error : fault)
  }

  /** For a client's request: throws what keeps it from being served. */
  checkServed(): void {
    if (this.#fault !== undefined && !this.#attached) throw this.#fault
    if (this.#unsupported) {
      throw new HotspareError('unsupported', 'A copy of this kind needs no maintenance window.')
    }
  }

  /** Writers wait for a read: what takes time and can be done later has to wait for its end. */
  get holding(): boolean {
    return this.#client?.holding ?? false
  }

  get client(): Client | undefined {
    return this.#client
  }

  disconnect(client: Client): void {
    if (this.#client === client) this.#client = undefined
    this.wake()
  }

  wake(): void {
    this.#wake?.()
  }

  /** Until there is something to serve, the source has a hint (unless no read is to begin now), or the signal aborts. */
  async wait(source: Source, signal: AbortSignal): Promise<void> {
    if (this.#client?.wanting) return
    const woken = new AbortController()
    const either = AbortSignal.any([signal, woken.signal])
    this.#wake = () => woken.abort()
    try {
      await (this.#client?.quiet ? aborted(either) : source.wait(either))
    } finally {
      this.#wake = undefined
    }
  }
}

class Client implements PassClient {
  readonly #gate: PassGate
  readonly ignore: ReadonlySet<string>
  #passes: Request<PassReport>[] = []
  #held: HeldRequest | undefined
  /** Read, and perhaps not durable yet. */
  #released: HeldRequest | undefined
  /** A pass was done, and the window is to come. */
  quiet = false

  constructor(gate: PassGate, ignore: ReadonlySet<string>) {
    this.#gate = gate
    this.ignore = ignore
  }

  get wanting(): boolean {
    return this.#passes.some(pass => !pass.begun) || this.#held?.begun === false
  }

  get holding(): boolean {
    return this.#held?.begun ?? false
  }

  async pass(): Promise<PassReport> {
    this.#gate.checkServed()
    const request = new Request<PassReport>()
    this.#passes.push(request)
    this.#gate.wake()
    return request.outcome
  }

  hold(): HeldPass {
    const request = new HeldRequest()
    try {
      this.#gate.checkServed()
      this.#held = request
      this.#gate.wake()
    } catch (error) {
      request.fail(error)
    }
    return request
  }

  end(): void {
    this.fail(new PassAbandoned('The one who asked for the pass has gone.'))
    this.quiet = false
    this.#gate.disconnect(this)
  }

  fail(error: unknown): void {
    for (const pass of this.#passes.splice(0)) pass.reject(error)
    this.#held?.fail(error)
    this.#held = undefined
    this.#released?.fail(error)
    this.#released = undefined
    this.quiet = false
  }

  /** What the read that begins now is for. */
  take(): { readonly passes: readonly Request<PassReport>[]; readonly held: HeldRequest | undefined } {
    const passes = this.#passes.filter(pass => !pass.begun)
    for (const pass of passes) pass.begun = true
    const held = passes.length === 0 && this.#held?.begun === false ? this.#held : undefined
    if (held !== undefined) held.begun = true
    return { passes, held }
  }

  done(passes: readonly Request<PassReport>[], report: PassReport): void {
    this.#passes = this.#passes.filter(pass => !passes.includes(pass))
    this.quiet = true
    for (const pass of passes) pass.resolve(report)
  }

  /** The held read is over. */
  released(held: HeldRequest): void {
    if (this.#held === held) this.#held = undefined
    this.#released = held
    this.quiet = false
  }
}

/** What is asked of who makes passes, and what comes of it. */

export interface PassReport {
  /** What was sent: bytes of files, and how many files got new content. */
  readonly bytes: number
  readonly files: number
  readonly removed: number
}

export interface HeldPassReport extends PassReport {
  /** Named, some of them; and how many. */
  readonly changed: readonly string[]
  readonly changedCount: number
  /** False: the source did not hold still. */
  readonly consistent: boolean
}

export interface HeldPass {
  readonly read: Promise<HeldPassReport>
  readonly durable: Promise<void>
  conclude(keep: boolean): void
}

/** How a held read ends that does not count. Not a fault of source or sink. */
export class PassAbandoned extends Error {
  override readonly name = 'PassAbandoned'
}

/** An outcome that is told from elsewhere. */
export class Request<T> {
  begun = false
  readonly outcome: Promise<T>
  resolve!: (value: T) => void
  reject!: (error: unknown) => void

  constructor() {
    this.outcome = new Promise((resolve, reject) => {
      this.resolve = resolve
      this.reject = reject
    })
    this.outcome.catch(() => undefined)
  }
}

export class HeldRequest implements HeldPass {
  begun = false
  readonly #read = new Request<HeldPassReport>()
  readonly #durable = new Request<void>()
  readonly #concluded = new Request<boolean>()
  readonly #abandoned = new AbortController()

  get read(): Promise<HeldPassReport> {
    return this.#read.outcome
  }
  get durable(): Promise<void> {
    return this.#durable.outcome
  }
  /** True: what was read counts. */
  get concluded(): Promise<boolean> {
    return this.#concluded.outcome
  }
  /** Aborts when what is being read does not count any more. */
  get abandoned(): AbortSignal {
    return this.#abandoned.signal
  }

  conclude(keep: boolean): void {
    this.#concluded.resolve(keep)
    if (!keep) this.#abandon(new PassAbandoned('The maintenance window was given up.'))
  }

  /** From the source's side, or because who asked has gone. Once it is concluded well, the read goes on to be durable. */
  fail(error: unknown): void {
    this.#concluded.resolve(false)
    this.#abandon(error)
  }

  /** The sink takes no more; why, `fail` will tell. Said at once, since writers wait. */
  endedEarly(): void {
    this.#concluded.resolve(false)
    this.#read.reject(new PassAbandoned('The read inside the window ended early.'))
  }

  wasRead(report: HeldPassReport): void {
    this.#read.resolve(report)
  }

  wasMadeDurable(): void {
    this.#durable.resolve()
  }

  #abandon(error: unknown): void {
    this.#abandoned.abort()
    this.#read.reject(error)
    this.#durable.reject(error)
  }
}

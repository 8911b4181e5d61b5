import type { FollowEvent } from '../../daemon/events.ts'
import { Child, describeExit, type Exit } from './child.ts'
import type { WriterReport } from './writer-loop.ts'

export interface StorePlan {
  readonly label: string
  /** What its application counts. */
  readonly unit: string
  readonly source: string
  readonly target: string
  /** The application: a script of this folder without its ending, and its arguments. */
  readonly writer: readonly [script: string, ...args: string[]]
}

/** One store of the demo: its application, its follower, and what both have said. */
export class FollowedStore {
  readonly label: string
  readonly unit: string
  readonly source: string
  readonly target: string
  readonly #writer: Child
  #follower: Child | undefined
  #committed = 0
  #writerDone = false
  #live = false
  #bytes = 0
  #transactions = 0
  #before = { bytes: 0, transactions: 0 }
  #lagMs: number | undefined

  constructor({ label, unit, source, target, writer }: StorePlan) {
    this.label = label
    this.unit = unit
    this.source = source
    this.target = target
    const [script, ...args] = writer
    this.#writer = new Child(script, args, line => {
      const report = line as unknown as WriterReport
      this.#committed = report.committed
      this.#writerDone = report.done
    })
  }

  /** Figures since the start, over all followers. */
  get figures() {
    return {
      committed: this.#committed,
      bytes: this.#before.bytes + this.#bytes,
      transactions: this.#before.transactions + this.#transactions,
      lagMs: this.#live ? this.#lagMs : undefined,
      following: this.#follower !== undefined,
      live: this.#live,
    }
  }

  async writing(signal: AbortSignal): Promise<void> {
    await this.#writer.until(() => this.#committed > 0, 'it wrote anything', signal)
  }

  /** Does something that needs the application: when that ends, `work` is aborted, and it is said. */
  async whileWriting<T>(signal: AbortSignal, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const gone = new AbortController()
    void this.#writer.exit.then(() => gone.abort())
    try {
      return await work(AbortSignal.any([signal, gone.signal]))
    } catch (error) {
      const { exited } = this.#writer
      if (exited === undefined || signal.aborted) throw error
      throw new Error(`the application of the ${this.label} failed (${describeExit(exited)})`, {
        cause: error,
      })
    }
  }

  /** Starts a follower, and resolves when it says 'live'. */
  async follow(signal: AbortSignal): Promise<void> {
    this.#follower = new Child('../main', ['follow', this.source, this.target, '--json'], line =>
      this.#hear(line as unknown as FollowEvent),
    )
    await this.#follower.until(() => this.#live, `the copy of the ${this.label} was complete`, signal)
  }

  /** Ends the follower: by SIGKILL it has no say in it. */
  async endFollower(signal: NodeJS.Signals): Promise<Exit> {
    const follower = this.#follower
    if (follower === undefined) throw new Error(`the ${this.label} has no follower`)
    if (follower.exited !== undefined) {
      throw new Error(`the follower of the ${this.label} ended by itself (${describeExit(follower.exited)})`)
    }
    const exit = await follower.end(signal)
    this.#follower = undefined
    this.#live = false
    this.#before = { bytes: this.figures.bytes, transactions: this.figures.transactions }
    this.#bytes = 0
    this.#transactions = 0
    return exit
  }

  /** Ends the application as its owner would. Gives how many transactions it committed in all. */
  async endWriter(): Promise<number> {
    const exit = await this.#writer.end('SIGTERM')
    if (exit.code !== 0 || !this.#writerDone) {
      throw new Error(`the application of the ${this.label} failed (${describeExit(exit)})`)
    }
    return this.#committed
  }

  /** In any case, at the end. */
  killAll(): void {
    for (const child of [this.#follower, this.#writer]) {
      if (child?.exited === undefined) child?.kill('SIGKILL')
    }
  }

  #hear(event: FollowEvent): void {
    switch (event.event) {
      case 'live':
        this.#live = true
        this.#lagMs = 0
        break
      case 'progress':
        this.#bytes = event.bytes
        this.#transactions = event.transactions
        this.#lagMs = event.lagMs
        break
      case 'stopped':
        this.#bytes = event.bytes
        this.#transactions = event.transactions
        break
      case 'caught-up':
        this.#lagMs = event.lagMs
        break
      case 'behind':
        this.#lagMs = event.lagMs
        break
      default:
        break
    }
  }
}

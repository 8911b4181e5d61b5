/** What writes into the stores: on one machine at a time, where it is put when that one is promoted. */
import type { Random } from '../../src/os/testing/random.ts'
import type { ScriptChange, ScriptStore } from '../../src/server/testing/script-driver.ts'
import { isOfTheDead, type Machine } from './machine.ts'
import { faultText, storeNames } from './servers.ts'
import type { VirtualTime } from './virtual-time.ts'

/** How large what it writes is. */
export interface ApplicationSizes {
  /** A write is of one of these bytes, at most. */
  readonly writeBytesMax: readonly number[]
  readonly fileBytesMax: number
}

export interface ApplicationOptions {
  readonly time: VirtualTime
  readonly random: Random
  readonly sizes: ApplicationSizes
  readonly machine: (name: string) => Machine
  /** The journals have changed, or may have. */
  readonly onChange: () => void
  readonly say: (text: string) => void
}

export class Application {
  readonly #options: ApplicationOptions
  #at: string | undefined
  /** Where it is in the middle of a transaction: there it goes on with that one when it was moved meanwhile. */
  #writingAt: string | undefined
  #stores = new Map<string, ScriptStore>()
  #writing: Promise<void> = Promise.resolve()
  #commits = 0

  constructor(options: ApplicationOptions) {
    this.#options = options
  }

  /** Where it runs. */
  get at(): string | undefined {
    return this.#at
  }

  /** Where what it writes may be half done. */
  get places(): ReadonlySet<string> {
    return new Set([this.#writingAt, this.#at].filter(name => name !== undefined))
  }

  get commits(): number {
    return this.#commits
  }

  async start(name: string): Promise<void> {
    const { machine, onChange, say } = this.#options
    this.#at = name
    this.#stores = new Map()
    for (const store of storeNames) {
      const application = machine(name).store(store)
      await application.open()
      this.#stores.set(store, application)
    }
    onChange()
    say(`the application runs on ${name}`)
  }

  /** The machine where it ran is on again: so is the application, as long as nobody else was promoted. */
  restart(name: string): void {
    this.#writing = this.#writing
      .then(() => this.start(name))
      .catch(error => {
        if (!isOfTheDead(error)) throw error
      })
  }

  async leave(name: string): Promise<void> {
    await this.#writing.catch(() => undefined)
    if (this.#at === name) this.#at = undefined
  }

  /** The machine is gone. What was being written there may never hear of it: nothing wakes up there any more. */
  crashed(name: string): void {
    if (this.#writingAt !== name) return
    this.#writing = Promise.resolve()
    this.#writingAt = undefined
  }

  /** So many transactions, while time goes on. */
  async write(count: number): Promise<void> {
    const { time, machine, onChange, say } = this.#options
    const at = this.#at
    if (at === undefined || !machine(at).up) return
    const writing = this.#writing
      .then(() => this.#commit(at, count))
      .catch(error => {
        // a full disk keeps the application from writing as well; a torn frame is cut at its next start
        if (isOfTheDead(error)) return
        if (this.#at === at) this.#at = undefined
        say(`the application fails: ${faultText(error)}`)
      })
      .finally(() => {
        onChange()
        if (this.#writing === writing) this.#writingAt = undefined
      })
    this.#writing = writing
    let done = false
    writing.then(() => {
      done = true
    })
    await time.run(() => done, 10_000)
  }

  async #commit(at: string, count: number): Promise<void> {
    for (let i = 0; i < count; i++) {
      const application = this.#stores.get(this.#options.random.pick(storeNames))
      if (application === undefined || this.#at !== at) return
      this.#writingAt = at
      await application.commit(this.#changes())
      this.#commits++
    }
  }

  #changes(): ScriptChange[] {
    const { random, sizes } = this.#options
    const path = random.pick(['a', 'b', 'c', 'd'])
    const roll = random.below(10)
    if (roll === 0) return [{ type: 'remove', path }]
    if (roll === 1) return [{ type: 'truncate', path, size: random.below(sizes.fileBytesMax) }]
    const size = 1 + random.below(random.pick(sizes.writeBytesMax))
    const data = random.bytes(size).toString('latin1')
    return [{ type: 'write', path, offset: random.below(sizes.fileBytesMax), data }]
  }
}

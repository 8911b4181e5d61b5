/**
 * The main job at first sight: two applications write, each in its own process; both stores are followed; the followers
 * are killed and started again; clones are opened with the real engine and proved. What does not hold is a finding.
 */
import * as fs from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { formatCount, formatDuration } from '../format.ts'
import { FollowedStore } from './followed-store.ts'
import { type DemoStore, type Proof, proofOfBank, proofOfLog, proveClone, proveEqual } from './proof.ts'

export interface DemoOptions {
  readonly seconds: number
  readonly keep: boolean
  readonly signal: AbortSignal
  /** Called when the stores are there. */
  onStores(stores: readonly FollowedStore[]): void
  onStep(text: string): void
}

export interface Finding {
  readonly ok: boolean
  readonly what: string
}

export interface DemoReport {
  readonly ok: boolean
  readonly findings: readonly Finding[]
  /** Where the stores are, when they were kept. */
  readonly directory?: string
}

export async function runDemo(options: DemoOptions): Promise<DemoReport> {
  const directory = await fs.realpath(await fs.mkdtemp(join(tmpdir(), 'hotspare-demo-')))
  const findings: Finding[] = []
  let stores: readonly DemoStore[] = []
  const killAll = () => {
    for (const { store } of stores) store.killAll()
  }
  process.on('exit', killAll)
  try {
    for (const place of ['live', 'live/events.rdm', 'copy', 'clones']) await fs.mkdir(join(directory, place))
    stores = startStores(directory)
    options.onStores(stores.map(({ store }) => store))
    await new Demo(options, directory, stores, findings).run()
  } catch (error) {
    if (options.signal.aborted) throw error
    findings.push({ ok: false, what: error instanceof Error ? error.message : String(error) })
  } finally {
    killAll()
    process.off('exit', killAll)
    if (!options.keep) await fs.rm(directory, { recursive: true, force: true, maxRetries: 5 })
  }
  const ok = findings.length > 0 && findings.every(finding => finding.ok)
  return { ok, findings, ...(options.keep ? { directory } : {}) }
}

function startStores(directory: string): readonly DemoStore[] {
  const [live, copy] = [join(directory, 'live'), join(directory, 'copy')]
  const bank = join(live, 'bank.db')
  const events = join(live, 'events.rdm')
  return [
    {
      store: new FollowedStore('bank', './bank-writer', bank, join(copy, 'bank.db'), bank),
      prove: proofOfBank,
    },
    {
      store: new FollowedStore('event log', './log-writer', events, join(copy, 'events.rdm'), events),
      prove: proofOfLog,
    },
  ]
}

class Demo {
  readonly #options: DemoOptions
  readonly #directory: string
  readonly #stores: readonly DemoStore[]
  readonly #findings: Finding[]
  readonly #startedMs = performance.now()

  constructor(options: DemoOptions, directory: string, stores: readonly DemoStore[], findings: Finding[]) {
    this.#options = options
    this.#directory = directory
    this.#stores = stores
    this.#findings = findings
  }

  async run(): Promise<void> {
    const { signal, onStep } = this.#options
    await this.#each(({ store }) => store.writing(signal))
    onStep('a bank (SQLite) and an event log (pack files) are written at full speed; following both')
    await this.#each(({ store }) => store.follow(signal))
    onStep('live: both copies are complete, and kept up to date')
    await this.#until(0.3)

    const seen = await this.#kill()
    await this.#proveAll('killed', seen)
    onStep('starting them again')
    const restartedMs = performance.now()
    await this.#each(({ store }) => store.follow(signal))
    const tookMs = performance.now() - restartedMs
    this.#found(
      `Started again, both went on where they stood, and had caught up after ${formatDuration(tookMs)}.`,
    )
    await this.#until(0.52)

    onStep('cloning both copies while they are written to, and opening the clones')
    await this.#proveAll('live', seen)
    await this.#until(0.65)
    await this.#finish()
  }

  /** Gives how many transactions each application had committed when its follower was dead. */
  async #kill(): Promise<readonly number[]> {
    this.#options.onStep('killing both followers with SIGKILL')
    for (const { store } of this.#stores) await store.endFollower('SIGKILL')
    return this.#stores.map(({ store }) => store.figures.committed)
  }

  async #proveAll(name: 'killed' | 'live', killedAt: readonly number[]): Promise<void> {
    const when = name === 'killed' ? 'Killed in the middle of the work' : 'Cloned while it was being followed'
    for (const [index, demoStore] of this.#stores.entries()) {
      const { store } = demoStore
      const proof = await this.#prove(demoStore, name)
      const { committed } = store.figures
      this.#found(`${when}, the copy of the ${store.label} was whole: ${proof.what}.`)
      const atLeast = killedAt[index] ?? 0
      if (name === 'live' && proof.last < atLeast) {
        throw new Error(
          `the copy of the ${store.label} is at ${proof.last}, behind ${atLeast} of long before`,
        )
      }
      this.#options.onStep(`${store.label}: the clone is at ${proof.last}, the application at ${committed}`)
    }
  }

  #prove(demoStore: DemoStore, name: string): Promise<Proof> {
    const destination = join(this.#directory, 'clones', `${name}-${fileName(demoStore.store.target)}`)
    return proveClone(demoStore, destination, this.#options.signal)
  }

  async #finish(): Promise<void> {
    const { signal, onStep } = this.#options
    onStep('stopping the applications, letting the followers catch up')
    const committed: number[] = []
    for (const { store } of this.#stores) committed.push(await store.endWriter())
    const total = formatCount(committed[0] ?? 0, 'transaction')
    this.#found(`The applications noticed nothing: the bank's ${total} met not one error.`)
    for (const [index, demoStore] of this.#stores.entries()) {
      await this.#untilEqual(demoStore, committed[index] ?? 0)
    }
    for (const { store } of this.#stores) {
      const exit = await store.endFollower('SIGTERM')
      if (exit.code !== 0)
        throw new Error(`the follower of the ${store.label} ended with status ${exit.code}`)
    }
    onStep('comparing both copies with the live stores')
    await this.#each(demoStore => proveEqual(demoStore, signal))
    this.#found('In the end both copies equal their live stores, byte for byte or page for page.')
  }

  /** The last clone must have what the application committed last: nothing is on the way for longer than moments. */
  async #untilEqual(demoStore: DemoStore, committed: number): Promise<void> {
    const { store } = demoStore
    const waitMsMax = 10_000
    const startedMs = performance.now()
    for (let attempt = 1; ; attempt++) {
      const { last } = await this.#prove(demoStore, `final-${attempt}`)
      if (last === committed) {
        this.#found(
          `The last of ${formatCount(committed, 'transaction')} of the ${store.label} is in its copy.`,
        )
        return
      }
      if (performance.now() - startedMs > waitMsMax) {
        throw new Error(`the copy of the ${store.label} stays at ${last}, of ${committed} transactions`)
      }
      await sleep(100, undefined, { signal: this.#options.signal })
    }
  }

  #found(what: string): void {
    this.#findings.push({ ok: true, what })
  }

  async #each(work: (store: DemoStore) => Promise<void>): Promise<void> {
    await Promise.all(this.#stores.map(work))
  }

  /** Waits until this share of the time has passed. */
  async #until(share: number): Promise<void> {
    const leftMs = this.#startedMs + this.#options.seconds * 1_000 * share - performance.now()
    if (leftMs > 0) await sleep(leftMs, undefined, { signal: this.#options.signal })
  }
}

function fileName(path: string): string {
  return path.slice(path.lastIndexOf('/') + 1)
}

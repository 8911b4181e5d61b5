/**
 * The main job at first sight: three applications write, each in its own process; their stores are followed; the followers
 * are killed and started again; clones are opened with the real engine and proved. The uploads that rows of the bank name
 * are copied after the bank, so that none is missing; the message board is mirrored in maintenance windows. What does not
 * hold is a finding.
 */
import * as fs from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { formatCount, formatDuration } from '../format.ts'
import { runHotspare } from './command.ts'
import { FollowedStore } from './followed-store.ts'
import type { MaintenanceFiles } from './maintenance-flag.ts'
import { MirroredBoard } from './mirrored-board.ts'
import { type DemoStore, type Proof, proofOfBank, proofOfLog, proveClone, proveEqual } from './proof.ts'
import { proveUploads } from './uploads.ts'

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
  let stores: Stores | undefined
  const killAll = () => {
    for (const store of stores?.all ?? []) store.killAll()
  }
  process.on('exit', killAll)
  try {
    const places = ['live', 'live/events.rdm', 'live/uploads', 'live/board', 'copy', 'clones', 'maintenance']
    for (const place of places) await fs.mkdir(join(directory, place))
    stores = startStores(directory, options.signal)
    options.onStores(stores.all)
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

interface Stores {
  readonly all: readonly FollowedStore[]
  /** Those of which every moment is consistent. */
  readonly whole: readonly DemoStore[]
  readonly bank: FollowedStore
  readonly boardStore: FollowedStore
  readonly board: MirroredBoard
}

function startStores(directory: string, signal: AbortSignal): Stores {
  const live = (name: string) => join(directory, 'live', name)
  const copy = (name: string) => join(directory, 'copy', name)
  const unit = 'transaction'
  const bank = new FollowedStore({
    label: 'bank',
    unit,
    source: live('bank.db'),
    target: copy('bank.db'),
    writer: ['./bank-writer', live('bank.db'), live('uploads')],
  })
  const log = new FollowedStore({
    label: 'event log',
    unit,
    source: live('events.rdm'),
    target: copy('events.rdm'),
    writer: ['./log-writer', live('events.rdm')],
  })
  const files: MaintenanceFiles = {
    flag: join(directory, 'maintenance', 'wanted'),
    acknowledgement: join(directory, 'maintenance', 'on'),
  }
  const switches = ['--flag', files.flag, '--acknowledgement', files.acknowledgement]
  const boardStore = new FollowedStore({
    label: 'board',
    unit: 'post',
    source: live('board'),
    target: copy('board'),
    writer: ['./board-writer', live('board'), ...switches, ...boardPace],
  })
  return {
    all: [bank, log, boardStore],
    whole: [
      { store: bank, prove: proofOfBank },
      { store: log, prove: proofOfLog },
    ],
    bank,
    boardStore,
    board: new MirroredBoard(boardStore, files, join(directory, 'clones'), signal),
  }
}

/** Some years of posts, and hundreds of new ones a second. */
const boardPace = ['--prefill', '5000', '--posters', '3', '--pause-ms', '3']

class Demo {
  readonly #options: DemoOptions
  readonly #directory: string
  readonly #stores: Stores
  readonly #findings: Finding[]
  readonly #startedMs = performance.now()
  #uploads = 0

  constructor(options: DemoOptions, directory: string, stores: Stores, findings: Finding[]) {
    this.#options = options
    this.#directory = directory
    this.#stores = stores
    this.#findings = findings
  }

  async run(): Promise<void> {
    const { signal, onStep } = this.#options
    const { all } = this.#stores
    await Promise.all(all.map(store => store.writing(signal)))
    onStep(
      'a bank (SQLite, with uploads), an event log (pack files) and a message board are being written; following them',
    )
    await Promise.all(all.map(store => store.follow(signal)))
    onStep('live: all copies are complete, and kept up to date')
    await this.#copyBoardPlainly()
    await this.#mirrorBoard()
    await this.#until(0.25)

    const seen = await this.#kill()
    await this.#proveAll('killed', seen)
    onStep('starting them again')
    const restartedMs = performance.now()
    await Promise.all(all.map(store => store.follow(signal)))
    const tookMs = performance.now() - restartedMs
    this.#found(
      `Started again, all went on where they stood, and had caught up after ${formatDuration(tookMs)}.`,
    )
    await this.#until(0.45)

    onStep('cloning the copies while they are written to, and opening the clones')
    await this.#proveAll('live', seen)
    await this.#mirrorBoard()
    await this.#until(0.6)
    await this.#finish()
  }

  async #copyBoardPlainly(): Promise<void> {
    const { board } = this.#stores
    const finding = await board.copyPlainly()
    const tears = finding?.tears ?? []
    if (finding === undefined) this.#options.onStep('board: cp -r met a file that went while it copied')
    else if (tears.length > 0) {
      const what = formatCount(tears.length, 'place')
      this.#options.onStep(
        `board: a plain cp -r of it disagrees with itself in ${what}, such as: ${tears[0]}`,
      )
    }
  }

  async #mirrorBoard(): Promise<void> {
    const { heldMs, posts } = await this.#stores.board.mirror()
    this.#options.onStep(
      `board: mirrored, held for ${formatDuration(heldMs)}; logs and pages agree on all ${formatCount(posts, 'post')}`,
    )
  }

  /** Gives how many transactions each application had committed when its follower was dead. */
  async #kill(): Promise<readonly number[]> {
    const { all, whole } = this.#stores
    this.#options.onStep('killing the followers with SIGKILL')
    for (const store of all) await store.endFollower('SIGKILL')
    return whole.map(({ store }) => store.figures.committed)
  }

  async #proveAll(name: 'killed' | 'live', killedAt: readonly number[]): Promise<void> {
    const when = name === 'killed' ? 'Killed in the middle of the work' : 'Cloned while it was being followed'
    for (const [index, demoStore] of this.#stores.whole.entries()) {
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
    await this.#proveBoard(name, when)
  }

  /** It shows what the last window showed, whatever came after. */
  async #proveBoard(name: string, when: string): Promise<void> {
    const { board, boardStore } = this.#stores
    const { posts } = await board.prove(`board-${name}`)
    const expected = board.windows.at(-1)?.posts
    if (posts !== expected) {
      throw new Error(`the copy of the board has ${posts} posts, as of its last window it had ${expected}`)
    }
    this.#found(`${when}, the copy of the board was that of its last window.`)
    const { committed } = boardStore.figures
    this.#options.onStep(
      `board: the clone has the ${posts} posts of its last window, the application ${committed}`,
    )
  }

  async #prove(demoStore: DemoStore, name: string): Promise<Proof> {
    const destination = join(this.#directory, 'clones', `${name}-${fileName(demoStore.store.target)}`)
    const proof = await proveClone(demoStore, destination, this.#options.signal)
    if (demoStore.store === this.#stores.bank) await this.#proveUploads(destination)
    return proof
  }

  /** Copied after the bank was: each upload was there before its row. */
  async #proveUploads(bank: string): Promise<void> {
    const [source, target] = ['live', 'copy'].map(place => join(this.#directory, place, 'uploads')) as [
      string,
      string,
    ]
    await runHotspare(['follow', '--once', source, target], this.#options.signal)
    const uploads = proveUploads(bank, target)
    if (uploads < this.#uploads || uploads === 0) throw new Error(`the bank's clone names ${uploads} uploads`)
    this.#uploads = uploads
  }

  async #finish(): Promise<void> {
    const { signal, onStep } = this.#options
    const { all, whole, board, boardStore } = this.#stores
    onStep('stopping the applications, letting the followers catch up')
    const committed = new Map<FollowedStore, number>()
    for (const store of all) committed.set(store, await store.endWriter())
    const total = formatCount(committed.get(this.#stores.bank) ?? 0, 'transaction')
    this.#found(`The applications noticed nothing: the bank's ${total} met not one error.`)
    for (const demoStore of whole) await this.#untilEqual(demoStore, committed.get(demoStore.store) ?? 0)
    const uploads = formatCount(this.#uploads, 'upload')
    this.#found(`Copied after the bank each time, all ${uploads} that its rows name were in the copy.`)
    const posts = await this.#lastPosts(committed.get(boardStore) ?? 0)
    const held = board.windows.map(({ heldMs }) => formatDuration(heldMs)).join(', ')
    this.#found(
      `The board was held for ${held}; each time logs and pages agreed in its copy, at last on all ${posts}.`,
    )
    for (const store of all) {
      const exit = await store.endFollower('SIGTERM')
      if (exit.code !== 0)
        throw new Error(`the follower of the ${store.label} ended with status ${exit.code}`)
    }
    onStep('comparing all copies with the live stores')
    await Promise.all(all.map(store => proveEqual(store, signal)))
    this.#found('In the end all copies equal their live stores, byte for byte or page for page.')
  }

  /** By a last mirror of the board, whose application is gone: nobody would say that the mode is on. */
  async #lastPosts(committed: number): Promise<string> {
    const { posts } = await this.#stores.board.mirrorAtRest()
    if (posts !== committed) throw new Error(`the copy of the board has ${posts} posts, of ${committed}`)
    return formatCount(posts, 'post')
  }

  /** The last clone must have what the application committed last: nothing is on the way for longer than moments. */
  async #untilEqual(demoStore: DemoStore, committed: number): Promise<void> {
    const { store } = demoStore
    const waitMsMax = 10_000
    const startedMs = performance.now()
    for (let attempt = 1; ; attempt++) {
      const { last } = await this.#prove(demoStore, `final-${attempt}`)
      if (last === committed) {
        this.#found(`The last of ${formatCount(committed, store.unit)} of the ${store.label} is in its copy.`)
        return
      }
      if (performance.now() - startedMs > waitMsMax) {
        throw new Error(`the copy of the ${store.label} stays at ${last}, of ${committed}`)
      }
      await sleep(100, undefined, { signal: this.#options.signal })
    }
  }

  #found(what: string): void {
    this.#findings.push({ ok: true, what })
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

/**
 * Brings a copy of a directory up to date in a maintenance window that is as short as can be:
 *
 *   pass before      what changed since the last time; the application goes on
 *   window           enter, see that it is on, read what changed since, leave (`window.ts`)
 *   durable          what was read inside; the application goes on
 *   archive          of the copy; the application goes on
 *
 * Invariant: the copy shows what was read inside a window that was held to its end, or what it showed before. A crash at
 * any moment leaves one of the two, and, while the mode may be on, a lease (`lease.ts`).
 */
import type { Machine } from '../drivers/driver.ts'
import { describeSystemError, HotspareError } from '../os/errors.ts'
import type { ApplicationMode } from './applications.ts'
import { type ArchiveResult, archive } from './archive.ts'
import type { FollowEvent } from './events.ts'
import { InsideCommand } from './inside-command.ts'
import { claimLease, type Lease } from './lease.ts'
import { recoverLeases } from './lease-recovery.ts'
import { type FollowPlace, locateFollow } from './locate.ts'
import { localMachine } from './machine.ts'
import { checkArchivePlace } from './mirror-archive.ts'
import type { MirrorEvent, MirrorEventBody } from './mirror-events.ts'
import { applicationOf, type MirrorMode, ownFlagFile } from './mirror-mode.ts'
import { type MirrorPasses, openMirrorPasses } from './mirror-passes.ts'
import type { Mode } from './mode.ts'
import type { ModeSwitch } from './mode-switch.ts'
import { openSwitch } from './open-switch.ts'
import { type HeldPass, type HeldPassReport, PassAbandoned, type PassReport } from './pass-request.ts'
import { absolutePath } from './paths.ts'
import { stateDirectory } from './state-directory.ts'
import { aborted } from './step.ts'
import { holdWindow, type WindowReport } from './window.ts'

export interface MirrorOptions {
  readonly source: string
  readonly target: string
  readonly mode: MirrorMode
  /** How long one step of the application's may take; 60 s unless told otherwise. */
  readonly commandTimeoutMs?: number
  /** How long the mode may be on; 5 min unless told otherwise. */
  readonly maxHoldMs?: number
  /** How long what had begun before the mode was on may take to end; by kind of mode unless told otherwise. */
  readonly settleMs?: number
  readonly refreshEveryMs?: number
  /**
   * For `sh -c`: run while the mode is on, beside the pass; a dump of the application's database, say. The window lasts until
   * both are done, and what was read counts only when it succeeded.
   */
  readonly inside?: string
  /** An archive of the copy, made when the application goes on again. */
  readonly archive?: string
  readonly noDelete?: boolean
  readonly resync?: boolean
  readonly signal?: AbortSignal
  /** Called in order; must not throw. */
  readonly onEvent?: (event: MirrorEvent) => void
  readonly machine?: Machine
  /** Where leases are kept; by the environment unless told otherwise. */
  readonly stateDirectory?: string
}

export interface MirrorReport {
  readonly source: string
  readonly target: string
  /** A running follower made the passes. */
  readonly followed: boolean
  /** False: the mode was on already, and was left on. */
  readonly entered: boolean
  /** From the beginning of entering to the end of leaving. */
  readonly heldMs: number
  readonly before: PassReport & { readonly passes: number }
  readonly inside: PassReport
  /** What somebody wrote during the window all the same: some of the paths, and how many. It is in the copy. */
  readonly changed: readonly string[]
  readonly changedCount: number
  readonly archive?: ArchiveResult
  readonly elapsedMs: number
}

const commandTimeoutMsDefault = 60_000
const maxHoldMsDefault = 5 * 60_000
const refreshEveryMsDefault = 60_000
/** A pass that took long left much for the window: then one more before it. */
const passesBeforeMax = 3
const passMsShort = 1_000
const progressIntervalMs = 500
/** The fault that ended a read is told a moment after its end. */
const faultMsMax = 30_000

/**
 * Resolves when the copy has what was read inside the window, durably. Rejects with `enter-failed`, `mode-off`,
 * `mode-unknown`, `inside-failed`, `leave-failed` (the mode may be on), `hold-exceeded`, `never-still`, `window-busy`, with
 * what `follow` rejects with, or with an AbortError. The mode has then been left, but for `leave-failed`.
 */
export async function mirror(options: MirrorOptions): Promise<MirrorReport> {
  try {
    return await new Mirror(options).run()
  } catch (error) {
    throw describeSystemError(error, `Mirroring ${options.source}`)
  }
}

class Mirror {
  readonly #options: MirrorOptions
  readonly #machine: Machine
  readonly #signal: AbortSignal
  readonly #stateDirectory: string
  #lease: Lease | undefined
  #progressMs = 0

  constructor(options: MirrorOptions) {
    this.#options = options
    this.#machine = options.machine ?? localMachine
    this.#signal = options.signal ?? new AbortController().signal
    this.#stateDirectory = options.stateDirectory ?? stateDirectory()
  }

  async run(): Promise<MirrorReport> {
    const { clock } = this.#machine
    const startedMs = clock.nowMs()
    this.#signal.throwIfAborted()
    const onEvent = (event: MirrorEventBody) => this.#emit(event)
    await recoverLeases({ ...this.#machine, stateDirectory: this.#stateDirectory, onEvent })
    const place = await this.#locate()
    const { archive: file } = this.#options
    if (file !== undefined) await checkArchivePlace(this.#machine.storage, file)
    const application = applicationOf(this.#options.mode, place.source)
    const mode = await openSwitch(application.mode, {
      storage: this.#machine.storage,
      source: place.source,
      target: place.target,
      onOutput: (step, output) => this.#emit({ event: 'output', step, output }),
      onStarted: command => void this.#lease?.running(command),
    })
    const passes = await this.#openPasses(place, application.mode)
    this.#emit({ event: 'started', source: place.source, target: place.target, followed: passes.followed })
    const made = await this.#passes(passes, place, application, mode).finally(() => passes.close())
    const archived = await this.#archive(place)
    const { window, before, inside } = made
    const { bytes, files, removed, changed, changedCount } = inside
    return {
      source: place.source,
      target: place.target,
      followed: passes.followed,
      entered: window.entered,
      heldMs: window.heldMs,
      before,
      inside: { bytes, files, removed },
      changed,
      changedCount,
      ...(archived === undefined ? {} : { archive: archived }),
      elapsedMs: clock.nowMs() - startedMs,
    }
  }

  #locate(): Promise<FollowPlace> {
    return locateFollow(this.#machine.storage, {
      source: absolutePath(this.#options.source),
      target: absolutePath(this.#options.target),
      driver: 'directory',
      resync: this.#options.resync ?? false,
    })
  }

  async #openPasses(place: FollowPlace, mode: Mode): Promise<MirrorPasses> {
    return openMirrorPasses({
      ...this.#machine,
      place,
      source: this.#options.source,
      target: this.#options.target,
      resync: this.#options.resync ?? false,
      noDelete: this.#options.noDelete ?? false,
      ignore: await ownFlagFile(this.#machine.storage, place.source, mode),
      signal: this.#signal,
      onEvent: event => this.#followed(event),
    })
  }

  async #passes(passes: MirrorPasses, place: FollowPlace, application: ApplicationMode, mode: ModeSwitch) {
    const before = await this.#passesBefore(passes)
    const { window, held, inside } = await this.#window(passes, place, application, mode)
    if (window.kept && held !== undefined) {
      const durable = await this.#unlessAborted(held.durable).then(() => undefined, asError)
      // that the mode is on is worse than anything that may be wrong with the copy
      if (window.leaveFault !== undefined) throw window.leaveFault
      if (durable !== undefined) throw durable
      this.#emit({ event: 'durable' })
    }
    if (window.leaveFault !== undefined) throw window.leaveFault
    if (!window.kept) throw await this.#reason(window.fault, held)
    if (inside === undefined) throw new Error('a window that was kept, and nothing was read inside')
    if (!inside.consistent) throw neverStill(inside)
    return { window, before, inside }
  }

  async #passesBefore(passes: MirrorPasses): Promise<MirrorReport['before']> {
    const { clock } = this.#machine
    let sum = { bytes: 0, files: 0, removed: 0 }
    for (let n = 1; ; n++) {
      const startedMs = clock.nowMs()
      const report = await this.#unlessAborted(passes.client.pass())
      const tookMs = clock.nowMs() - startedMs
      this.#emit({ event: 'pass', ...report, tookMs })
      sum = {
        bytes: sum.bytes + report.bytes,
        files: sum.files + report.files,
        removed: sum.removed + report.removed,
      }
      if (n === passesBeforeMax || tookMs < passMsShort) return { ...sum, passes: n }
    }
  }

  async #window(
    passes: MirrorPasses,
    place: FollowPlace,
    application: ApplicationMode,
    mode: ModeSwitch,
  ): Promise<{ window: WindowReport; held: HeldPass | undefined; inside: HeldPassReport | undefined }> {
    const { storage, clock } = this.#machine
    const options = this.#options
    const timeoutMs = options.commandTimeoutMs ?? commandTimeoutMsDefault
    let held: HeldPass | undefined
    let inside: HeldPassReport | undefined
    let command: InsideCommand | undefined
    const window = await holdWindow({
      mode,
      clock,
      signal: this.#signal,
      timeoutMs,
      maxHoldMs: options.maxHoldMs ?? maxHoldMsDefault,
      settleMs: options.settleMs ?? application.settleMs,
      refreshEveryMs: options.refreshEveryMs ?? application.refreshEveryMs ?? refreshEveryMsDefault,
      ...(application.expiresMs === undefined ? {} : { expiresMs: application.expiresMs }),
      claim: async () => {
        this.#lease = await claimLease(storage, clock, this.#stateDirectory, {
          sinceMs: clock.nowMs(),
          pid: process.pid,
          command: process.argv.slice(1).join(' '),
          source: place.source,
          target: place.target,
          mode: application.mode,
          timeoutMs,
        }).catch((error: unknown) => {
          throw describeSystemError(error, `Keeping a lease in ${this.#stateDirectory}`)
        })
        return this.#lease
      },
      begin: () => {
        const pass = passes.client.hold()
        held = pass
        command = this.#startInside(place)
        const all = Promise.all([
          command?.done,
          pass.read.then(report => {
            inside = report
          }),
        ])
        // a follower that ends makes nothing durable: no need to wait for the rest
        const read = Promise.race([all, pass.durable.then(() => all)])
        const conclude = (keep: boolean): void => {
          pass.conclude(keep)
          if (!keep) command?.end()
        }
        return { read, conclude }
      },
      onEvent: event => {
        if (event.event === 'left' && inside !== undefined) this.#emit({ event: 'held', ...inside })
        this.#emit(event)
      },
    })
    if (!window.entered && inside !== undefined) this.#emit({ event: 'held', ...inside })
    // the application goes on: nothing of the command's may be left behind
    await command?.done.catch(() => undefined)
    return { window, held, inside }
  }

  #startInside({ source, target }: FollowPlace): InsideCommand | undefined {
    const { inside } = this.#options
    if (inside === undefined) return undefined
    const onOutput = (step: string, output: string) => this.#emit({ event: 'output', step, output })
    return new InsideCommand(inside, { source, target, onOutput })
  }

  /** Why the window was given up: of a read that ended early the sink's fault, which comes a moment later. */
  async #reason(fault: unknown, held: HeldPass | undefined): Promise<unknown> {
    if (!(fault instanceof PassAbandoned) || held === undefined) return fault
    const over = new AbortController()
    const told = await Promise.race([
      held.durable.then(() => undefined, asError),
      this.#machine.clock.sleep(faultMsMax, over.signal),
    ])
    over.abort()
    if (told !== undefined && !(told instanceof PassAbandoned)) return told
    return new HotspareError(
      'io-error',
      'The pass inside the window ended early. The copy is as it was; run it again.',
    )
  }

  async #archive(place: FollowPlace): Promise<ArchiveResult | undefined> {
    const { archive: file } = this.#options
    if (file === undefined) return undefined
    this.#signal.throwIfAborted()
    const result = await archive({
      target: place.target,
      to: file,
      consistent: true,
      signal: this.#signal,
      machine: this.#machine,
      onProgress: ({ bytes, totalBytes }) => this.#progress(bytes, totalBytes - bytes),
      onNotice: notice => this.#emit({ event: 'notice', ...notice }),
    })
    const { archiveBytes: bytes, elapsedMs: tookMs } = result
    this.#emit({ event: 'archived', file: result.file ?? file, bytes, tookMs })
    return result
  }

  async #unlessAborted<T>(work: Promise<T>): Promise<T> {
    const over = new AbortController()
    try {
      work.catch(() => undefined)
      const cut = aborted(this.#signal, over.signal).then(() => this.#signal.throwIfAborted())
      cut.catch(() => undefined)
      return (await Promise.race([work, cut])) as T
    } finally {
      over.abort()
    }
  }

  #followed(event: FollowEvent): void {
    if (event.event === 'progress') {
      this.#progress(event.bytes, event.backlogBytes)
    } else if (event.event === 'notice' && event.code !== 'window-needed') {
      const { timeMs: _, ...notice } = event
      this.#emit(notice)
    } else if (event.event === 'retrying') {
      this.#emit({ event: 'retrying', code: event.code, message: event.message })
    }
  }

  #progress(bytes: number, backlogBytes: number | undefined): void {
    const nowMs = this.#machine.clock.nowMs()
    if (nowMs - this.#progressMs < progressIntervalMs) return
    this.#progressMs = nowMs
    this.#emit({ event: 'progress', bytes, ...(backlogBytes === undefined ? {} : { backlogBytes }) })
  }

  #emit(event: MirrorEventBody): void {
    this.#options.onEvent?.({ timeMs: this.#machine.clock.nowMs(), ...event })
  }
}

function neverStill({ changed, changedCount }: HeldPassReport): HotspareError {
  const names = changed.length === 0 ? '' : `: ${changed.slice(0, 5).join(', ')}`
  return new HotspareError(
    'never-still',
    `The source was written to all through the window (${changedCount} paths${names}). Somebody does not honour the mode. The copy is as of the last window that held.`,
    { details: { changed, changedCount } },
  )
}

function asError(error: unknown): unknown {
  return error ?? new Error('an unknown fault')
}

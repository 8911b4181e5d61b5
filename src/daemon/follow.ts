/**
 * Keeps a copy of a live store up to date until told to stop.
 *
 * An attempt opens source and replica and runs the pump; a fault that may pass ends the attempt, and the next one
 * starts from what the replica really has. So supervision holds no state that a crash could lose: the worst is that
 * entries are read again. The lock on the sidecar is held from the first attempt to the end.
 */
import type { ConsistentCommit, DriverOptions, Machine, Notice, Replica } from '../drivers/driver.ts'
import { describeSystemError, HotspareError } from '../os/errors.ts'
import type { LocalServer } from '../os/local-socket.ts'
import { writeMeta } from '../replica/meta.ts'
import { openSidecar, type Sidecar } from '../replica/sidecar.ts'
import { readStatusFile } from '../replica/status-file.ts'
import type { Position } from '../stream/entry.ts'
import { pump } from '../stream/pump.ts'
import { retryDelayMs } from '../stream/retry.ts'
import type { Source } from '../stream/source.ts'
import { serveControl } from './control-server.ts'
import type { FollowEvent } from './events.ts'
import { type FollowPlace, type FollowRequest, locateFollow } from './locate.ts'
import { localMachine } from './machine.ts'
import { FollowMonitor } from './monitor.ts'
import { PassAbandoned } from './pass-request.ts'
import { PassGate } from './passes.ts'
import { absolutePath } from './paths.ts'

const behindMsDefault = 5_000

export interface FollowOptions {
  /** The live store; relative to the working directory. */
  readonly source: string
  /** The copy. For a one-file store a file, or a directory (existing, or ending in '/') that gets it under its own name. */
  readonly target: string
  /** A driver's name; 'auto' or absent: recognised by the bytes. */
  readonly driver?: string
  readonly profile?: string
  /** Which files are packs, for the profile 'generic'. */
  readonly pattern?: string
  /** Switch a SQLite database that is not in WAL mode to it. */
  readonly wal?: boolean
  /** The size at which the log of a live SQLite database is made to be restarted; 64 MiB unless told otherwise. */
  readonly walLimitBytes?: number
  /** End when the copy has caught up for the first time, and give up at the first lasting fault. */
  readonly once?: boolean
  /** Keep at the copy what is deleted at the source. */
  readonly noDelete?: boolean
  /** Take the copy as it is found, compare, and send the difference. */
  readonly resync?: boolean
  /** Further behind than this is told as an event; 5 s unless told otherwise. */
  readonly behindMs?: number
  /** Ends after the current commit. */
  readonly signal?: AbortSignal
  /** Called in order; must not throw. */
  readonly onEvent?: (event: FollowEvent) => void
  /** The files and the clock to work with; this machine's own unless told otherwise. */
  readonly machine?: Machine
}

export interface FollowReport {
  readonly driver: string | undefined
  readonly target: string | undefined
  readonly reason: 'aborted' | 'caught-up'
  readonly position: Position | undefined
  /** The last consistent, durable commit; undefined: the copy is not complete yet. */
  readonly consistent: ConsistentCommit | undefined
  readonly bytes: number
  readonly transactions: number
}

/**
 * Resolves after the current commit when the signal aborts, or when caught up with `once`. Rejects with a
 * HotspareError on a fault that does not pass by itself; source and copy are then as unharmed as after a stop.
 */
export async function follow(options: FollowOptions): Promise<FollowReport> {
  return followFor(options, undefined)
}

/**
 * With a gate of the caller's: works for that caller only. No control socket is opened, and a fault that lasts ends it as
 * with `once`.
 */
export async function followFor(options: FollowOptions, gate: PassGate | undefined): Promise<FollowReport> {
  const machine = options.machine ?? localMachine
  const signal = options.signal ?? new AbortController().signal
  const onEvent = options.onEvent ?? (() => {})
  const behindMs = options.behindMs ?? behindMsDefault
  const monitor = new FollowMonitor({ ...machine, behindMs, onEvent })
  const follower = new Follower(options, machine, monitor, signal, gate)
  try {
    await follower.run()
    const consistent = monitor.consistent
    if (options.once && !signal.aborted && !monitor.complete) {
      throw new HotspareError(
        'target-incomplete',
        `The copy ${follower.place?.target} has all that the source has, and that is not a valid store yet. Follow again later.`,
      )
    }
    await monitor.stopped()
    const reason = signal.aborted ? 'aborted' : 'caught-up'
    const { bytes, transactions, position } = monitor
    monitor.emit({
      event: 'stopped',
      reason,
      consistent: consistent !== undefined,
      ...(monitor.windowed && monitor.complete ? { complete: true } : {}),
      bytes,
      transactions,
    })
    const { driver, target } = follower.place ?? {}
    return { driver: driver?.name, target, reason, position, consistent, bytes, transactions }
  } catch (error) {
    await monitor.stopped(error instanceof HotspareError ? error : undefined)
    throw error
  } finally {
    await follower.close()
  }
}

class Follower {
  readonly #options: FollowOptions
  readonly #request: FollowRequest
  readonly #machine: Machine
  readonly #monitor: FollowMonitor
  readonly #signal: AbortSignal
  #place: FollowPlace | undefined
  #sidecar: Sidecar | undefined
  readonly #gate: PassGate
  /** The gate is another's in this process, so there is nobody to listen to. */
  readonly #served: boolean
  #control: LocalServer | undefined
  #resync: boolean
  #started = false

  constructor(
    options: FollowOptions,
    machine: Machine,
    monitor: FollowMonitor,
    signal: AbortSignal,
    gate: PassGate | undefined,
  ) {
    this.#options = options
    this.#gate = gate ?? new PassGate()
    this.#served = gate !== undefined
    this.#machine = machine
    this.#monitor = monitor
    this.#signal = signal
    this.#resync = options.resync ?? false
    this.#request = {
      source: absolutePath(options.source),
      target: absolutePath(options.target),
      resync: this.#resync,
      ...(options.driver === undefined || options.driver === 'auto' ? {} : { driver: options.driver }),
      ...(options.profile === undefined ? {} : { profile: options.profile }),
      ...(options.pattern === undefined ? {} : { pattern: options.pattern }),
    }
  }

  get place(): FollowPlace | undefined {
    return this.#place
  }

  async run(): Promise<void> {
    let attempt = 1
    while (!this.#signal.aborted) {
      const movedBefore = this.#monitor.transactions
      try {
        await this.#prepare()
        await this.#attempt()
        return
      } catch (thrown) {
        const error = describeSystemError(thrown, `Following ${this.#request.source}`)
        this.#gate.failed(error)
        // what was read in a window that was given up is void, and read again
        if (thrown instanceof PassAbandoned && !this.#served) {
          this.#monitor.abandoned()
          continue
        }
        if (this.#signal.aborted && isAbort(thrown)) return
        if (this.#monitor.transactions > movedBefore) attempt = 1
        const waiting = this.#sidecar !== undefined || !isCode(error, 'target-busy')
        const delayMs = waiting
          ? retryDelayMs(error, attempt, this.#served || (this.#options.once ?? false))
          : undefined
        if (delayMs === undefined || !(error instanceof HotspareError)) throw error
        this.#monitor.retrying(error, attempt, delayMs)
        attempt++
        await this.#machine.clock.sleep(delayMs, this.#signal)
      }
    }
  }

  async close(): Promise<void> {
    this.#gate.failed(new HotspareError('target-busy', 'The follower of the copy has ended. Run it again.'))
    await this.#control?.close()
    await this.#sidecar?.close()
  }

  /** Finds the places anew at each attempt, since a source may come back as something else; takes the target once. */
  async #prepare(): Promise<void> {
    const { storage, clock } = this.#machine
    const place = await locateFollow(storage, { ...this.#request, resync: this.#resync })
    if (this.#place !== undefined && place.target !== this.#place.target) {
      throw new HotspareError(
        'target-other-source',
        `The source changed its kind, so that its copy would be ${place.target} instead of ${this.#place.target}. Follow it anew.`,
      )
    }
    if (this.#sidecar === undefined) {
      this.#sidecar = await openSidecar(storage, clock, place.target)
      const last = this.#resync ? undefined : await readStatusFile(storage, this.#sidecar.path)
      this.#monitor.attach(this.#sidecar.path, last)
    }
    this.#place = place
    await writeMeta(storage, this.#sidecar.path, place.meta)
  }

  async #attempt(): Promise<void> {
    const { place, sidecar } = this.#prepared()
    const { store, profile } = place.meta
    const common = {
      ...this.#machine,
      store,
      ...(profile === undefined ? {} : { profile }),
      onNotice: (notice: Notice) => this.#monitor.emit({ event: 'notice', ...notice }),
    }
    const source = await place.driver.openSource({
      ...common,
      path: place.source,
      driverOptions: this.#driverOptions(place),
      scratch: sidecar.scratch,
    })
    await closing(source, async () => {
      const replica = await place.driver.openReplica({
        ...common,
        path: place.target,
        sidecar: sidecar.path,
        resync: this.#resync,
        noDelete: this.#options.noDelete ?? false,
      })
      await closing(replica, async () => {
        // asked for by who comes while it is made ready: so before anybody can ask
        const gated = this.#gate.attach(source)
        if (source.hold !== undefined && !this.#served) {
          this.#control ??= await this.#openControl(sidecar.path)
        }
        await this.#pump(place, gated, replica)
      })
    })
  }

  /** Undefined on a file system that has no sockets: following goes on, only mirrors can't ask for passes. */
  async #openControl(sidecar: string): Promise<LocalServer | undefined> {
    try {
      return await serveControl(sidecar, this.#gate)
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException
      if (code === undefined) throw error
      this.#monitor.emit({
        event: 'notice',
        code: 'control-unavailable',
        message: `No socket can be opened in ${sidecar} (${code}): 'hotspare mirror' cannot ask this follower for passes. Stop it before a mirror.`,
      })
      return undefined
    }
  }

  async #pump(place: FollowPlace, source: Source, replica: Replica): Promise<void> {
    const { store, profile } = place.meta
    const monitor = this.#monitor
    monitor.opened(source, replica, await replica.position(store))
    if (!this.#started) {
      this.#started = true
      monitor.emit({
        event: 'started',
        source: place.meta.source,
        target: place.target,
        driver: place.driver.name,
        ...(profile === undefined ? {} : { profile }),
        resumed: place.resumed,
      })
    }
    await pump({
      store,
      source,
      sink: replica,
      clock: this.#machine.clock,
      signal: this.#signal,
      once: this.#options.once ?? false,
      holding: () => this.#gate.holding,
      onProgress: monitor.onProgress,
      onDurable: monitor.onDurable,
      onCaughtUp: progress => {
        this.#resync = false
        monitor.onCaughtUp(progress)
      },
    })
  }

  #prepared(): { place: FollowPlace; sidecar: Sidecar } {
    if (this.#place === undefined || this.#sidecar === undefined) throw new Error('not prepared')
    return { place: this.#place, sidecar: this.#sidecar }
  }

  #driverOptions(place: FollowPlace): DriverOptions {
    const { pattern } = place.meta
    return {
      ...(pattern === undefined ? {} : { pattern }),
      ...(this.#options.wal === undefined ? {} : { wal: this.#options.wal }),
      ...(this.#options.walLimitBytes === undefined ? {} : { walBytesMax: this.#options.walLimitBytes }),
    }
  }
}

/** Closes in any case; the fault of the work counts for more than that of the closing. */
async function closing(resource: { close(): Promise<void> }, work: () => Promise<void>): Promise<void> {
  try {
    await work()
  } catch (error) {
    await resource.close().catch(() => undefined)
    throw error
  }
  await resource.close()
}

function isCode(error: unknown, code: string): boolean {
  return error instanceof HotspareError && error.code === code
}

function isAbort(error: unknown): boolean {
  return error instanceof Error && error.name === 'AbortError'
}

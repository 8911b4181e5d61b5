/**
 * Change hints, by inotify. A hint only says 'look again': whoever waits looks at the files themselves, so that a lost
 * event costs delay, never data. An overflow of the kernel's queue is seen, and wakes every watcher.
 *
 * One inotify descriptor serves the whole process (`inotify-channel.ts`), and only a pending `wait` keeps it alive.
 */
import { type InotifyChannel, inotifyEvents, openInotify } from './inotify-channel.ts'
import { fileSystemType, inotifyAdd, inotifyRemove } from './syscalls.ts'

/** What to be woken for (inotify(7)); combine with `|`. */
export const watchEvent = {
  modify: 0x2,
  attributes: 0x4,
  closeWrite: 0x8,
  moved: 0xc0,
  create: 0x100,
  delete: 0x200,
  deleteSelf: 0x400,
  moveSelf: 0x800,
  /** Only in `takeEvents`: the watched thing is gone, or its file system was unmounted. */
  gone: 0xa000,
  /** Only in `takeEvents`: anything may have happened. */
  overflow: 0x4000,
} as const

const inQueueOverflow = 0x4000
const inIgnored = 0x8000
const inMaskAdd = 0x20000000
const alwaysSent = watchEvent.gone | inQueueOverflow

export type WaitResult = 'changed' | 'overflow' | 'timeout' | 'aborted'

export interface Watcher {
  /**
   * Watches a file or directory (not what lies in its subdirectories). Rejects a path that is not there with the
   * system's error. False when events can't be had for it: the watcher polls from then on.
   */
  add(path: string, events: number): boolean
  remove(path: string): void
  /** Why it polls, for people; undefined while events are to be had. */
  readonly pollingReason: string | undefined
  /** Resolves at once when something was seen since the last wait. One wait at a time. */
  wait(signal: AbortSignal, timeoutMs: number): Promise<WaitResult>
  /** The kinds (`watchEvent`, or-ed) seen since the last call. */
  takeEvents(): number
  close(): void
}

export interface WatcherOptions {
  /** How long a wait is at most when events can't be had. */
  readonly pollMs?: number
}

/** Why a path's file system gives no events of changes that are made elsewhere, by its name; undefined when it does. */
export function eventlessFileSystem(path: string): string | undefined {
  return eventlessFileSystems.get(fileSystemType(path) ?? 0)
}

/** Where a change made by another machine (or behind the mount) gives no event: statfs f_type of statfs(2). */
const eventlessFileSystems: ReadonlyMap<number, string> = new Map([
  [0x6969, 'NFS'],
  [0x517b, 'SMB'],
  [0xff534d42, 'CIFS'],
  [0xfe534d42, 'SMB2'],
  [0x65735546, 'FUSE'],
  [0x01021997, '9P'],
  [0x00c36400, 'Ceph'],
  [0x5346414f, 'AFS'],
  [0x73757245, 'Coda'],
  [0x01161970, 'GFS2'],
  [0x7461636f, 'OCFS2'],
  [0x0bd00bd0, 'Lustre'],
  [0x47504653, 'GPFS'],
  [0x786f4256, 'VirtualBox shared folders'],
  [0x19830326, 'BeeGFS'],
])

interface Subscription {
  readonly watcher: PathWatcher
  readonly path: string
  readonly events: number
}

/** The process's inotify descriptor: open while at least one path is watched. */
class Hub {
  #channel: InotifyChannel | undefined
  #waits = 0
  readonly #subscriptions = new Map<number, Subscription[]>()

  subscribe(subscription: Subscription): number {
    const { fd } = this.#open()
    let watch: number
    try {
      watch = inotifyAdd(fd, subscription.path, subscription.events | inMaskAdd)
    } catch (error) {
      this.#closeWhenUnused()
      throw error
    }
    const others = this.#subscriptions.get(watch)
    if (others === undefined) this.#subscriptions.set(watch, [subscription])
    else others.push(subscription)
    return watch
  }

  unsubscribe(watch: number, watcher: PathWatcher, path: string): void {
    const all = this.#subscriptions.get(watch)
    if (all === undefined) return
    const rest = all.filter(one => one.watcher !== watcher || one.path !== path)
    if (rest.length > 0) {
      this.#subscriptions.set(watch, rest)
      return
    }
    this.#subscriptions.delete(watch)
    if (this.#channel !== undefined) inotifyRemove(this.#channel.fd, watch)
    this.#closeWhenUnused()
  }

  /** While somebody waits, the process stays alive for it. */
  waiting(change: 1 | -1): void {
    this.#waits += change
    this.#channel?.keepAlive(this.#waits > 0)
  }

  #open(): InotifyChannel {
    if (this.#channel === undefined) {
      const channel = openInotify(
        events => this.#dispatch(events),
        () => this.#abandon(channel),
      )
      this.#channel = channel
      channel.keepAlive(this.#waits > 0)
    }
    return this.#channel
  }

  #closeWhenUnused(): void {
    if (this.#subscriptions.size > 0) return
    this.#channel?.close()
    this.#channel = undefined
  }

  /** Reading failed: nobody may rely on events any more. */
  #abandon(channel: InotifyChannel): void {
    if (channel !== this.#channel) return
    const watchers = new Set([...this.#subscriptions.values()].flat().map(one => one.watcher))
    this.#subscriptions.clear()
    this.#closeWhenUnused()
    for (const watcher of watchers) watcher.degrade('reading inotify events failed')
  }

  #dispatch(events: Buffer): void {
    for (const { watch, mask } of inotifyEvents(events)) {
      if ((mask & inQueueOverflow) !== 0) {
        for (const all of this.#subscriptions.values()) for (const one of all) one.watcher.notify(mask)
        continue
      }
      const all = this.#subscriptions.get(watch) ?? []
      for (const one of all) if ((mask & (one.events | alwaysSent)) !== 0) one.watcher.notify(mask)
      if ((mask & inIgnored) !== 0) this.#subscriptions.delete(watch)
    }
    this.#closeWhenUnused()
  }
}

const hub = new Hub()

class PathWatcher implements Watcher {
  readonly #pollMs: number
  readonly #watches = new Map<string, number>()
  #pollingReason: string | undefined
  #seen = 0
  #unreported = 0
  #wake: (() => void) | undefined

  constructor(pollMs: number) {
    this.#pollMs = pollMs
  }

  get pollingReason(): string | undefined {
    return this.#pollingReason
  }

  add(path: string, events: number): boolean {
    const eventless = eventlessFileSystem(path)
    if (eventless !== undefined) {
      this.degrade(`${eventless} gives no events`)
      return false
    }
    try {
      const watch = hub.subscribe({ watcher: this, path, events })
      const before = this.#watches.get(path)
      if (before !== undefined && before !== watch) hub.unsubscribe(before, this, path)
      this.#watches.set(path, watch)
      return true
    } catch (error) {
      const code = (error as NodeJS.ErrnoException).code
      if (code === undefined || !noMoreWatches.has(code)) throw error
      this.degrade(`no more inotify watches or instances are allowed (${code}; see fs.inotify in sysctl)`)
      return false
    }
  }

  remove(path: string): void {
    const watch = this.#watches.get(path)
    if (watch === undefined) return
    this.#watches.delete(path)
    hub.unsubscribe(watch, this, path)
  }

  degrade(reason: string): void {
    this.#pollingReason ??= reason
    this.notify(watchEvent.overflow)
  }

  notify(mask: number): void {
    this.#seen |= mask
    this.#unreported |= mask
    this.#wake?.()
  }

  async wait(signal: AbortSignal, timeoutMs: number): Promise<WaitResult> {
    if (signal.aborted) return 'aborted'
    if (this.#unreported === 0) {
      const limitMs = this.#pollingReason === undefined ? timeoutMs : Math.min(timeoutMs, this.#pollMs)
      hub.waiting(1)
      await new Promise<void>(resolve => {
        const timer = setTimeout(wake, limitMs)
        signal.addEventListener('abort', wake)
        this.#wake = wake
        function wake(): void {
          clearTimeout(timer)
          signal.removeEventListener('abort', wake)
          resolve()
        }
      }).finally(() => {
        this.#wake = undefined
        hub.waiting(-1)
      })
    }
    if (signal.aborted) return 'aborted'
    const seen = this.#unreported
    this.#unreported = 0
    if (seen === 0) return 'timeout'
    return (seen & watchEvent.overflow) !== 0 ? 'overflow' : 'changed'
  }

  takeEvents(): number {
    const seen = this.#seen
    this.#seen = 0
    return seen
  }

  close(): void {
    for (const path of [...this.#watches.keys()]) this.remove(path)
    this.#wake?.()
  }
}

const noMoreWatches: ReadonlySet<string> = new Set(['ENOSPC', 'EMFILE', 'ENFILE', 'ENOMEM'])

export function openWatcher(options: WatcherOptions = {}): Watcher {
  return new PathWatcher(options.pollMs ?? 250)
}

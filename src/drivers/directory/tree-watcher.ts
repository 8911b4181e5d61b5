/**
 * When to look at a tree again, and at what: inotify hints where they can be had, else a whole walk at an interval that
 * grows with its cost. Watches are added only for who waits (a follower): the first wait only begins to watch, and the walk
 * that follows adds the watches, each before its directory is listed, so that nothing is lost in between.
 *
 * Idle means no work: nothing runs until the kernel says that something changed; a walk for safety comes twice an hour.
 */
import { readFileSync } from 'node:fs'
import type { Clock } from '../../os/clock.ts'
import { eventlessFileSystem } from '../../os/watch.ts'
import type { Notice } from '../driver.ts'
import { type HintedNames, TreeHints } from './hints.ts'

/** Changes come in bursts: so long is waited for more. */
const burstMs = 20
/** A burst that never ends is not waited for longer than this. */
const burstMsMax = 2_000
const safetyWalkMs = 30 * 60_000
const pollMsMin = 5_000
const pollMsMax = 10 * 60_000
/** A walk may take one part in so many of the time. */
const walkShare = 50

export interface TreeWatcherOptions {
  readonly path: string
  readonly clock: Clock
  onNotice(notice: Notice): void
}

export class TreeWatcher {
  readonly #options: TreeWatcherOptions
  #hints: TreeHints | undefined
  #state: 'unwatched' | 'watching' | 'polling' = 'unwatched'
  #wake: (() => void) | undefined
  #lastPassMs = 0
  #walkMs = 0
  #noticedPollMs = 0
  #pollingReason = ''

  constructor(options: TreeWatcherOptions) {
    this.#options = options
  }

  /** Undefined when nothing is watched. */
  get hints(): TreeHints | undefined {
    return this.#hints
  }

  /** Watches from the next look on, which has to be a whole one. */
  start(): void {
    if (this.#state !== 'unwatched') return
    const reason = eventlessMount(this.#options.path)
    if (reason !== undefined) {
      this.degrade(reason)
      return
    }
    try {
      this.#hints = new TreeHints(
        () => this.#wake?.(),
        () => this.degrade('reading inotify events failed'),
      )
      this.#hints.addAll()
      this.#state = 'watching'
    } catch (error) {
      const code = (error as NodeJS.ErrnoException).code ?? String(error)
      this.degrade(`no more inotify instances are allowed (${code}; see fs.inotify in sysctl)`)
    }
  }

  /** No hints from now on. */
  degrade(reason: string): void {
    this.#hints?.close()
    this.#hints = undefined
    this.#state = 'polling'
    this.#pollingReason = reason
    this.#noticedPollMs = 0
    this.#wake?.()
  }

  /** What the read that begins now has to look at. */
  take(): HintedNames | 'all' {
    return this.#hints?.take() ?? 'all'
  }

  /** What was taken was not all read. */
  lost(): void {
    this.#hints?.addAll()
  }

  /** How long a read took, and how much of it the look at everything. */
  passTook(passMs: number, walkMs: number | undefined): void {
    this.#lastPassMs = passMs
    if (walkMs !== undefined) this.#walkMs = walkMs
  }

  async wait(signal: AbortSignal): Promise<void> {
    if (this.#state === 'unwatched') {
      this.start()
      // the walk that adds the watches comes next
      if (this.#hints !== undefined) return
    }
    const { clock } = this.#options
    const startedMs = clock.nowMs()
    if (this.#hints !== undefined) {
      await this.#event(signal, safetyWalkMs)
      // unless nothing came: then it is time for the walk
      if (this.#hints?.isEmpty && !signal.aborted) this.#hints.addAll()
      const restMs = Math.max(burstMs, Math.min(this.#lastPassMs - (clock.nowMs() - startedMs), burstMsMax))
      if (!signal.aborted) await clock.sleep(restMs, signal)
      return
    }
    const pollMs = Math.max(pollMsMin, Math.min(this.#walkMs * walkShare, pollMsMax))
    this.#noticePolling(pollMs)
    await clock.sleep(pollMs, signal)
  }

  close(): void {
    this.#hints?.close()
    this.#hints = undefined
    this.#wake?.()
  }

  async #event(signal: AbortSignal, timeoutMs: number): Promise<void> {
    const hints = this.#hints
    if (hints === undefined || !hints.isEmpty || signal.aborted) return
    const woken = new AbortController()
    this.#wake = () => woken.abort()
    hints.keepAlive(true)
    try {
      await this.#options.clock.sleep(timeoutMs, AbortSignal.any([signal, woken.signal]))
    } finally {
      this.#wake = undefined
      hints.keepAlive(false)
    }
  }

  #noticePolling(pollMs: number): void {
    // told again only when it has become something else
    if (this.#noticedPollMs > 0 && pollMs < this.#noticedPollMs * 2) return
    this.#noticedPollMs = pollMs
    const { path } = this.#options
    this.#options.onNotice({
      code: 'polling',
      message: `Changes in ${path} are looked for every ${Math.round(pollMs / 1000)} s: ${this.#pollingReason}.`,
      details: { path, intervalMs: pollMs, reason: this.#pollingReason },
    })
  }
}

/** Why no events can be had of some part of a tree. */
function eventlessMount(root: string): string | undefined {
  const own = eventlessFileSystem(root)
  if (own !== undefined) return `${own} gives no events`
  for (const path of mountsBelow(root)) {
    const type = eventlessFileSystem(path)
    if (type !== undefined) return `${path} is ${type}, which gives no events`
  }
  return undefined
}

function mountsBelow(root: string): string[] {
  let mounts: string
  try {
    mounts = readFileSync('/proc/self/mounts', 'utf8')
  } catch {
    // without /proc it is not known; the walk for safety finds what gives no events
    return []
  }
  return mounts
    .split('\n')
    .map(line =>
      (line.split(' ')[1] ?? '').replace(/\\([0-7]{3})/g, (_, octal: string) =>
        String.fromCharCode(Number.parseInt(octal, 8)),
      ),
    )
    .filter(path => path.startsWith(root === '/' ? '/' : `${root}/`) && path !== '/')
}

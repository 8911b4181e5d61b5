/**
 * One maintenance window: enter, see that it is on, read what changed, leave.
 *
 * Invariant: when entering has begun, leaving is tried whatever happens (a fault, an interruption, the limit), before
 * anything else is done, and until it is known to have succeeded the lease stays on disk. A mode that was on already is
 * neither entered nor left. What was read counts only when nothing says that the mode was off while it was read.
 *
 * A crash leaves the lease. The worst outcome is an application that stays in its mode because its own command to leave
 * fails every time: then it is said what to run by hand.
 */
import type { Clock } from '../os/clock.ts'
import { HotspareError } from '../os/errors.ts'
import type { Lease } from './lease.ts'
import { leaveFailed, leaveMode } from './leaving.ts'
import type { ModeSwitch } from './mode-switch.ts'
import { aborted, runStep } from './step.ts'

/** What is done inside. */
export interface WindowPass {
  /** Resolves when everything has been read, so that writers may go on; rejects when that can't be. */
  readonly read: Promise<unknown>
  /** When the window is over: whether what was read counts; a read that still runs is made to end. The first call counts. */
  conclude(keep: boolean): void
}

export interface WindowOptions {
  readonly mode: ModeSwitch
  readonly clock: Clock
  /** Waits are ended by it; leaving is not. */
  readonly signal: AbortSignal
  /** How long each step of the application's may take. */
  readonly timeoutMs: number
  /** From the beginning of entering to the beginning of leaving. */
  readonly maxHoldMs: number
  /** Between the mode being on and the read: what the application had begun before may end. */
  readonly settleMs: number
  readonly refreshEveryMs: number
  /** A mode that is neither entered anew nor refreshed for so long counts as off. */
  readonly expiresMs?: number
  claim(): Promise<Lease>
  begin(): WindowPass
  onEvent(event: WindowEvent): void
}

export type WindowEvent =
  | { readonly event: 'already-on' }
  | { readonly event: 'entered'; readonly tookMs: number }
  | { readonly event: 'refreshed' }
  | { readonly event: 'refresh-failed'; readonly message: string }
  | {
      readonly event: 'leave-retrying'
      readonly message: string
      readonly attempt: number
      readonly delayMs: number
    }
  | { readonly event: 'left'; readonly heldMs: number }

export interface WindowReport {
  /** False: the mode was on already, and was left on. */
  readonly entered: boolean
  /** From the beginning of entering to the end of leaving; of a mode that was on already, how long it was needed. */
  readonly heldMs: number
  /** What was read inside counts. */
  readonly kept: boolean
  /** Why not. */
  readonly fault?: unknown
  /** Whatever came of the rest: the mode may be on. */
  readonly leaveFault?: HotspareError
}

/** Rejects only when nothing was entered: `window-busy`, `mode-unknown`, `leave-failed` of an earlier one, AbortError. */
export async function holdWindow(options: WindowOptions): Promise<WindowReport> {
  const { mode, clock, signal } = options
  signal.throwIfAborted()
  const lease = await options.claim()
  let on = false
  try {
    const { verify } = mode
    if (verify !== undefined) {
      on = await runStep({ clock, limitMs: options.timeoutMs, signal }, step => verify(step))
    }
    signal.throwIfAborted()
    if (!on) await lease.entering()
  } catch (error) {
    await lease.remove()
    throw error
  }
  const window = new Window(options)
  if (on) {
    options.onEvent({ event: 'already-on' })
    await window.readInside('theirs')
    window.attempted()
    await lease.remove()
    return window.report({ entered: false })
  }
  return enterAndLeave(window, options, lease)
}

async function enterAndLeave(window: Window, options: WindowOptions, lease: Lease): Promise<WindowReport> {
  const { mode, clock } = options
  const whose = await window.enter()
  await window.readInside(whose)
  if (whose === 'theirs') {
    window.attempted()
    await lease.remove()
    return window.report({ entered: false })
  }
  const leaveFault = await leaveMode({
    mode,
    clock,
    timeoutMs: options.timeoutMs,
    onAttempt: () => window.attempted(),
    onFault: (fault, attempt, delayMs) => {
      if (delayMs !== undefined) {
        options.onEvent({ event: 'leave-retrying', message: fault.message, attempt, delayMs })
      }
    },
  })
  if (leaveFault !== undefined) {
    await lease.giveUp()
    return window.report({ entered: true, leaveFault: leaveFailed(mode, lease.path, leaveFault) })
  }
  window.left()
  await lease.remove()
  return window.report({ entered: true })
}

/** From the beginning of entering on: what was done inside, and how long it took. */
class Window {
  readonly #options: WindowOptions
  readonly #startedMs: number
  readonly #limit = new AbortController()
  readonly #over = new AbortController()
  /** Ends what is inside: the user's wish, or the limit. */
  readonly #stop: AbortSignal
  #pass: WindowPass | undefined
  #heldMs = 0
  #fault: unknown
  #failed = false
  /** When the mode was last begun to be put on. */
  #onSinceMs: number
  #refreshFailed = false
  #refreshing: Promise<void> = Promise.resolve()

  constructor(options: WindowOptions) {
    this.#options = options
    this.#startedMs = options.clock.nowMs()
    this.#onSinceMs = this.#startedMs
    this.#stop = AbortSignal.any([options.signal, this.#limit.signal])
    void options.clock.sleep(options.maxHoldMs, this.#over.signal).then(() => {
      if (!this.#over.signal.aborted) this.#limit.abort()
    })
  }

  /** A failed one counts as ours: it may have taken effect. */
  async enter(): Promise<'ours' | 'theirs'> {
    const { mode, clock, timeoutMs, onEvent } = this.#options
    try {
      const limits = { clock, limitMs: timeoutMs, signal: this.#stop }
      const whose = await runStep(limits, step => mode.enter(step))
      if (whose === 'theirs') {
        onEvent({ event: 'already-on' })
        return whose
      }
      const { verify } = mode
      if (verify !== undefined && !(await runStep(limits, step => verify(step)))) {
        throw new HotspareError(
          'mode-off',
          'Maintenance mode was entered, and yet it is off. Look at the command to enter, and at the one to verify.',
        )
      }
      onEvent({ event: 'entered', tookMs: clock.nowMs() - this.#startedMs })
    } catch (error) {
      const late =
        error instanceof HotspareError && error.code === 'mode-unknown' && mode.verify === undefined
      this.#fail(
        late ? new HotspareError('enter-failed', `Entering: ${error.message}`, { cause: error }) : error,
      )
    }
    return 'ours'
  }

  async readInside(whose: 'ours' | 'theirs'): Promise<void> {
    if (this.#failed) return this.#finish()
    const { clock, settleMs, begin } = this.#options
    try {
      if (whose === 'ours') {
        if (settleMs > 0) await clock.sleep(settleMs, this.#stop)
        this.#stop.throwIfAborted()
        this.#refreshing = this.#refreshWhileOpen()
      }
      this.#pass = begin()
      const stopped = aborted(this.#stop, this.#over.signal).then(() => this.#stop.throwIfAborted())
      stopped.catch(() => undefined)
      this.#pass.read.catch(() => undefined)
      await Promise.race([this.#pass.read, stopped])
      await this.#stillOn(whose)
    } catch (error) {
      this.#fail(error)
    }
    await this.#finish()
  }

  /** Leaving was tried: what was read goes its way, also when leaving is to be tried again. */
  attempted(): void {
    this.#heldMs = this.#options.clock.nowMs() - this.#startedMs
    this.#pass?.conclude(!this.#failed)
  }

  left(): void {
    this.#options.onEvent({ event: 'left', heldMs: this.#heldMs })
  }

  report(more: { readonly entered: boolean; readonly leaveFault?: HotspareError }): WindowReport {
    const fault = this.#failed ? { fault: this.#fault } : {}
    return { ...more, heldMs: this.#heldMs, kept: !this.#failed, ...fault }
  }

  #fail(error: unknown): void {
    if (this.#failed) return
    this.#failed = true
    const { maxHoldMs, signal } = this.#options
    const late = this.#limit.signal.aborted && !signal.aborted
    this.#fault = late
      ? new HotspareError(
          'hold-exceeded',
          `Maintenance mode was on for ${maxHoldMs / 1_000} s, which is the limit: what changed was not read by then. The copy is as it was; run it again, or allow more with --max-hold.`,
        )
      : error
    // at once: what reads inside has to stop before writers go on
    this.#pass?.conclude(false)
  }

  /** Before leaving: a refresh that comes after it would put the mode on for good. */
  async #finish(): Promise<void> {
    this.#over.abort()
    await this.#refreshing
  }

  async #refreshWhileOpen(): Promise<void> {
    const { mode, clock, refreshEveryMs, timeoutMs, onEvent } = this.#options
    const { refresh } = mode
    if (refresh === undefined) return
    for (;;) {
      await clock.sleep(refreshEveryMs, this.#over.signal)
      if (this.#over.signal.aborted) return
      const beganMs = clock.nowMs()
      try {
        await runStep({ clock, limitMs: timeoutMs, signal: this.#over.signal }, step => refresh(step))
        this.#onSinceMs = beganMs
        onEvent({ event: 'refreshed' })
      } catch (error) {
        if (this.#over.signal.aborted) return
        // safe to go on: that the mode was on till the end is proved before what was read counts
        this.#refreshFailed = true
        onEvent({ event: 'refresh-failed', message: error instanceof Error ? error.message : String(error) })
      }
    }
  }

  /**
   * Was it on until everything was read? Known without asking, when it was seen to be on and nothing can have ended it by
   * itself since; asking costs time in which writers wait.
   */
  async #stillOn(whose: 'ours' | 'theirs'): Promise<void> {
    const { mode, clock, timeoutMs, refreshEveryMs, expiresMs } = this.#options
    const sinceMs = clock.nowMs() - this.#onSinceMs
    if (whose === 'ours' && expiresMs !== undefined && sinceMs >= expiresMs) throw this.#ranOut()
    const expiring = mode.refresh !== undefined && (this.#refreshFailed || sinceMs >= refreshEveryMs)
    const { verify } = mode
    if (whose === 'ours' && !expiring) return
    if (verify === undefined) {
      if (this.#refreshFailed) throw this.#ranOut()
      return
    }
    const limits = { clock, limitMs: timeoutMs, signal: this.#stop }
    if (!(await runStep(limits, step => verify(step)))) throw this.#ranOut()
  }

  #ranOut(): HotspareError {
    return new HotspareError(
      'mode-off',
      'Maintenance mode was off at the end of the window, or may have been: what was read inside does not count. The copy is as it was; run it again.',
    )
  }
}

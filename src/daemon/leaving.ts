/** Leaves a maintenance mode, as often and as long as it takes within bounds. */
import type { Clock } from '../os/clock.ts'
import { HotspareError } from '../os/errors.ts'
import type { ModeSwitch } from './mode-switch.ts'
import { runStep } from './step.ts'

/** Delays before another attempt. */
const leaveDelaysMs = [200, 1_000, 3_000, 10_000]

export interface Leaving {
  readonly mode: ModeSwitch
  readonly clock: Clock
  /** How long one step may take. */
  readonly timeoutMs: number
  /** One more than there are delays, unless told otherwise. */
  readonly attemptsMax?: number
  /** Called when an attempt to leave has ended; the first of them as early as can be, before it is verified. */
  onAttempt?(attempt: number): void
  onFault?(error: HotspareError, attempt: number, delayMs: number | undefined): void
  /** Ends the waiting between attempts, and what runs. */
  readonly signal?: AbortSignal
}

/**
 * Resolves with undefined when the mode is left: its own command said so, and, where it can be verified, it is off. What
 * says that it is off counts for more than a command that failed, since some fail when there is nothing to leave. Else
 * gives the fault of the last attempt.
 */
export async function leaveMode(options: Leaving): Promise<HotspareError | undefined> {
  const { mode, clock, timeoutMs } = options
  const attemptsMax = options.attemptsMax ?? leaveDelaysMs.length + 1
  for (let attempt = 1; ; attempt++) {
    const step = {
      clock,
      limitMs: timeoutMs,
      ...(options.signal === undefined ? {} : { signal: options.signal }),
    }
    let fault = await faultOf(runStep(step, signal => mode.leave(signal)))
    options.onAttempt?.(attempt)
    const { verify } = mode
    if (verify !== undefined) {
      try {
        const on = await runStep(step, signal => verify(signal))
        fault = on
          ? (fault ?? new HotspareError('leave-failed', 'The mode is on although it was left.'))
          : undefined
      } catch (error) {
        fault ??= asFault(error)
      }
    }
    if (fault === undefined) return undefined
    const last = attempt >= attemptsMax || options.signal?.aborted === true
    const delayMs = last ? undefined : (leaveDelaysMs[attempt - 1] ?? leaveDelaysMs.at(-1))
    options.onFault?.(fault, attempt, delayMs)
    if (delayMs === undefined) return fault
    await clock.sleep(delayMs, options.signal)
  }
}

/** The loudest of all: what is to be done by hand. */
export function leaveFailed(mode: ModeSwitch, leasePath: string, cause: HotspareError): HotspareError {
  return new HotspareError(
    'leave-failed',
    `MAINTENANCE MODE MAY STILL BE ON. ${cause.message} Run this by hand: ${mode.leaveByHand} (then remove ${leasePath}; until that is done every hotspare command tries to leave it).`,
    { cause, details: { leaveByHand: mode.leaveByHand, lease: leasePath, ...cause.details } },
  )
}

async function faultOf(step: Promise<void>): Promise<HotspareError | undefined> {
  try {
    await step
    return undefined
  } catch (error) {
    return asFault(error)
  }
}

function asFault(error: unknown): HotspareError {
  if (error instanceof HotspareError) return error
  return new HotspareError('leave-failed', error instanceof Error ? error.message : String(error), {
    cause: error,
  })
}

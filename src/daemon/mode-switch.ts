/** What enters, leaves and looks at an application's maintenance mode, whatever kind of mode it is. */
import type { RunningCommand } from '../os/run-command.ts'
import type { Storage } from '../os/storage.ts'

/**
 * Every step ends soon after its signal aborts, and has no effect any more when it has ended. Steps reject with
 * `enter-failed`, `leave-failed` or `mode-unknown`.
 */
export interface ModeSwitch {
  /** 'theirs': it is on already, by somebody else, and nothing was done. */
  enter(signal: AbortSignal): Promise<'ours' | 'theirs'>
  leave(signal: AbortSignal): Promise<void>
  /** True when it is on. */
  readonly verify: ((signal: AbortSignal) => Promise<boolean>) | undefined
  readonly refresh: ((signal: AbortSignal) => Promise<void>) | undefined
  /** For a person: what to do by hand when it could not be left. */
  readonly leaveByHand: string
}

export interface SwitchContext {
  readonly storage: Storage
  readonly source: string
  readonly target: string
  /** What a command of the user's printed; for `--verbose`. */
  onOutput(step: string, output: string): void
  /** A command that puts the mode on has started: it must be ended before the mode is left, by whomever. */
  onStarted?(running: RunningCommand): void
}

export function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  return (error as NodeJS.ErrnoException).code ?? error.message
}

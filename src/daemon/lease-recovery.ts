/**
 * Leaves what a mirror that was killed left in maintenance mode. Looked at by every command at its start; costs one
 * listing of a directory when there is nothing to do.
 */
import type { Machine } from '../drivers/driver.ts'
import { describeSystemError, HotspareError } from '../os/errors.ts'
import { type DeadLease, deadLeases } from './lease.ts'
import { stateDirectory } from './state-directory.ts'

/** What was found on disk, in order: that it is being left, and what came of it. */
export type LeaseEvent =
  | {
      readonly event: 'leaving'
      readonly source: string
      readonly sinceMs: number
      readonly lease: string
    }
  | { readonly event: 'left-late'; readonly source: string; readonly lease: string }
  | { readonly event: 'leave-failed'; readonly lease: string; readonly message: string }

export interface RecoveryOptions extends Machine {
  readonly stateDirectory?: string
  /** Each step gets what the mirror gave it, but not more than this. */
  readonly timeoutMsMax?: number
  readonly attemptsMax?: number
  readonly signal?: AbortSignal
  onEvent(event: LeaseEvent): void
}

/** Never rejects for what is wrong with a lease: it is told, the lease stays, and the next command tries again. */
export async function recoverLeases(options: RecoveryOptions): Promise<void> {
  const directory = options.stateDirectory ?? stateDirectory()
  try {
    for await (const found of deadLeases(options.storage, directory)) await recover(found, options)
  } catch (error) {
    const described = describeSystemError(error, `Looking for leases in ${directory}`)
    if (!(described instanceof HotspareError)) throw error
    // another user's leases are not ours to leave
    if (described.code === 'permission-denied') return
    options.onEvent({ event: 'leave-failed', lease: directory, message: described.message })
  }
}

async function recover({ lease, record, running }: DeadLease, options: RecoveryOptions): Promise<void> {
  const fail = async (message: string): Promise<void> => {
    options.onEvent({ event: 'leave-failed', lease: lease.path, message })
    await lease.giveUp()
  }
  if (record === undefined) {
    return fail(
      `MAINTENANCE MODE MAY STILL BE ON. ${lease.path} cannot be read (damaged, or of another version of hotspare). Leave the mode by hand, then remove the file.`,
    )
  }
  const { source, target, sinceMs } = record
  options.onEvent({ event: 'leaving', source, sinceMs, lease: lease.path })
  try {
    // only now, as every command would pay for it
    const { endCommand } = await import('../os/run-command.ts')
    const { leaveFailed, leaveMode } = await import('./leaving.ts')
    const { openSwitch } = await import('./open-switch.ts')
    // one that still enters would put the mode on again after it was left
    for (const command of running) await endCommand(command)
    const mode = await openSwitch(record.mode, { ...options, source, target, onOutput: () => {} })
    const fault = await leaveMode({
      mode,
      clock: options.clock,
      timeoutMs: Math.min(record.timeoutMs, options.timeoutMsMax ?? Number.POSITIVE_INFINITY),
      ...(options.attemptsMax === undefined ? {} : { attemptsMax: options.attemptsMax }),
      ...(options.signal === undefined ? {} : { signal: options.signal }),
    })
    if (fault !== undefined) return await fail(leaveFailed(mode, lease.path, fault).message)
    await lease.remove()
    options.onEvent({ event: 'left-late', source, lease: lease.path })
  } catch (error) {
    const described = describeSystemError(error, `Leaving the maintenance mode of ${source}`)
    await fail(
      `MAINTENANCE MODE MAY STILL BE ON. ${described instanceof Error ? described.message : described}`,
    )
  }
}

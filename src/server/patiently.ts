import { describeSystemError, type HotspareError } from '../os/errors.ts'
import { applyFault, retryDelayMs } from './downstream/apply-fault.ts'
import type { ServerParts } from './parts.ts'

/**
 * In the middle of a change of role there is no way back: what a full or broken disk hinders is tried again until it
 * passes, or the server is stopped. `doing` begins a sentence. The work may be done again, as a whole.
 */
export async function patiently<T>(
  { machine, signal, tell }: Pick<ServerParts, 'machine' | 'signal' | 'tell'>,
  doing: string,
  work: () => Promise<T>,
): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await work()
    } catch (thrown) {
      const error = describeSystemError(thrown, doing)
      if (signal.aborted || applyFault(error) !== 'passing') throw error
      const { code, message } = error as HotspareError
      if (attempt === 1) tell('error', code, `${message} It is tried again.`)
      await machine.clock.sleep(retryDelayMs(attempt), signal)
      if (signal.aborted) throw error
    }
  }
}

/** What is done about a fault that a copy meets. Pure. */
import { HotspareError } from '../../os/errors.ts'

const firstDelayMs = 100
const delayMsMax = 10_000

/**
 * passing: it is the machine's, and may pass or be mended from outside. refused: what was sent, or the copy, is not as it
 * has to be; trying again gives the same.
 */
export function applyFault(error: unknown): 'passing' | 'refused' {
  if (!(error instanceof HotspareError)) return 'refused'
  switch (error.code) {
    case 'disk-full':
    case 'io-error':
    case 'permission-denied':
    case 'target-busy':
    case 'source-busy':
    case 'tool-missing':
      return 'passing'
    default:
      return 'refused'
  }
}

/** Before attempt number `attempt`, from 1. */
export function retryDelayMs(attempt: number): number {
  return Math.min(firstDelayMs * 2 ** Math.min(attempt - 1, 20), delayMsMax)
}

import type { Random } from '../os/random.ts'

export const callDelayMsMin = 100
export const callDelayMsMax = 30_000

/**
 * How long to wait after so many failures in a row: twice as long each time, up to the bound, and then less by chance,
 * so that many who lost one peer do not all call it at once.
 */
export function callDelayMs(failures: number, random: Random): number {
  const boundMs = Math.min(callDelayMsMax, callDelayMsMin * 2 ** Math.min(failures - 1, 20))
  return Math.max(callDelayMsMin / 2, boundMs * (0.5 + random.fraction() / 2))
}

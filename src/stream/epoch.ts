/**
 * Epochs: which reign of a primary something was written in. A promotion begins a new one; whoever meets a newer one
 * than its own gives way (fencing).
 *
 * Two hosts may be promoted without knowing of each other, so an epoch names who began it: then the two are different,
 * ordered all the same, and no number ever means two histories.
 */
export interface Epoch {
  /** From 1. */
  readonly number: number
  /** The name of the server that was promoted. */
  readonly by: string
}

/** Of a log that has nothing yet: older than any. */
export const epochBeforeAll: Epoch = { number: 0, by: '' }

/** Below zero when `a` is older than `b`, zero when they are one and the same. */
export function compareEpochs(a: Epoch, b: Epoch): number {
  if (a.number !== b.number) return a.number - b.number
  return a.by === b.by ? 0 : a.by < b.by ? -1 : 1
}

export function epochText(epoch: Epoch): string {
  return `${epoch.number} (${epoch.by})`
}

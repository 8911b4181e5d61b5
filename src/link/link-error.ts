/** What can go wrong with a link, by a reason that stays while messages may change. */
import { HotspareError } from '../os/errors.ts'

/** Why two servers do not talk to each other. It does not pass by itself: somebody has to look. */
export const refusalReasons = {
  protocol: 'what came is not the protocol of a link',
  version: 'the versions do not go together',
  set: 'the other server is of another set',
  self: 'a server called itself',
  name: 'another server answered than was called',
  stranger: 'the two servers are not paired',
  certificate: 'the certificate is not the one that was pinned',
  proof: 'the other server does not know the secret of the pair',
  late: 'the other server did not say in time who it is',
  busy: 'too many callers have not said yet who they are',
} as const

export type RefusalReason = keyof typeof refusalReasons

export function isRefusalReason(text: string): text is RefusalReason {
  return Object.hasOwn(refusalReasons, text)
}

/** `by`: who refused. */
export function linkRefused(
  reason: RefusalReason,
  message: string,
  by: 'this' | 'other' = 'this',
): HotspareError {
  return new HotspareError('link-refused', message, { details: { reason, by } })
}

/** The connection is over; calling again helps. */
export function linkBroken(message: string, cause?: unknown): HotspareError {
  return new HotspareError('link-broken', message, cause === undefined ? {} : { cause })
}

/** An error of the code `link-refused`. */
export function refusalOf(error: unknown): RefusalReason | undefined {
  if (!(error instanceof HotspareError) || error.code !== 'link-refused') return undefined
  const { reason } = error.details
  return typeof reason === 'string' && isRefusalReason(reason) ? reason : undefined
}

/** What a stranger wrote, made fit for a terminal. */
export function printable(text: string): string {
  return text.replace(/[^\x20-\x7e]/g, '?').slice(0, 500)
}

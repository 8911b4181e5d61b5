import { HotspareError } from '../../os/errors.ts'
import { displayPath } from '../../stream/entry.ts'

/** Somebody else changed the copy: what about which path. */
export function changedCopy(path: string, what: string): HotspareError {
  return new HotspareError(
    'target-changed',
    `The copy was changed by somebody else: '${displayPath(path)}' ${what}. Nothing was overwritten. Use --resync to take the copy as it is and send the difference.`,
    { details: { path: displayPath(path) } },
  )
}

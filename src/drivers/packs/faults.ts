/** What an engine of append-only files never does, named with pack and offset. */
import { HotspareError } from '../../os/errors.ts'
import type { Pack } from './pack.ts'

const advice = 'Use --resync to compare and go on.'

export function truncated(root: string, pack: Pack, size: number): HotspareError {
  return new HotspareError(
    'source-changed',
    `Pack ${pack.name} in ${root} was truncated: ${pack.sent} bytes were copied, it has ${size}. ${advice}`,
    { details: { pack: pack.name, offset: size, copied: pack.sent, size } },
  )
}

export function grownAfterSuccessor(root: string, pack: Pack, size: number): HotspareError {
  return new HotspareError(
    'source-changed',
    `Pack ${pack.name} in ${root} has grown although a newer pack exists: ${pack.sent} bytes were copied, it has ${size}. ${advice}`,
    { details: { pack: pack.name, offset: pack.sent, copied: pack.sent, size } },
  )
}

export function changedInside(root: string, pack: Pack, offset: number): HotspareError {
  return new HotspareError(
    'source-changed',
    `Pack ${pack.name} in ${root} was changed at or after offset ${offset}, where it had been copied already. ${advice}`,
    { details: { pack: pack.name, offset } },
  )
}

export function replaced(root: string, pack: Pack): HotspareError {
  return new HotspareError(
    'source-changed',
    `Pack ${pack.name} in ${root} is another file than before (a file was renamed over it, or it was made anew); ${pack.sent} bytes of the former were copied. ${advice}`,
    { details: { pack: pack.name, offset: 0, copied: pack.sent } },
  )
}

export function outOfOrder(root: string, pack: Pack, newest: Pack): HotspareError {
  return new HotspareError(
    'source-changed',
    `Pack ${pack.name} appeared in ${root} after ${newest.name}, though its name comes before: these are not packs in ascending order.`,
    { details: { pack: pack.name, offset: 0, newest: newest.name } },
  )
}

export function rootReplaced(root: string): HotspareError {
  return new HotspareError(
    'source-changed',
    `${root} is another directory than the one that was followed. ${advice}`,
    { details: { path: root } },
  )
}

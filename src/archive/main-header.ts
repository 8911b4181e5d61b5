/**
 * A member's own header block, in ustar format. Most members have the mode and owner of the one before, so a block is
 * made of that one's, and its checksum of what is new in it.
 */
import type { SnapshotEntry } from '../drivers/snapshot.ts'
import {
  blockBytes,
  type Field,
  field,
  idMax,
  nameBytesMax,
  putOctal,
  putSum,
  sizeMax,
  sumOf,
  typeflag,
} from './tar-format.ts'

const ustarMagic = 'ustar\x0000'

const typeOf = {
  file: typeflag.file,
  directory: typeflag.directory,
  symlink: typeflag.symlink,
  hardlink: typeflag.hardlink,
} as const satisfies Record<SnapshotEntry['kind'], string>

/** A block without name, link, size and time. */
export interface HeaderBase {
  readonly mode: number
  readonly uid: number
  readonly gid: number
  readonly block: Buffer
  readonly sum: number
}

export class MainHeader {
  readonly #bases: Partial<Record<SnapshotEntry['kind'], HeaderBase>> = {}

  put(
    area: Buffer,
    start: number,
    entry: SnapshotEntry,
    name: string,
    link: string,
    dataBytes: number,
  ): void {
    const { block, sum } = this.base(entry)
    area.set(block, start)
    const cut = ustarSplit(name)
    let total = sum
    if (cut === undefined) total += putText(area, start, field.name, name)
    else {
      total += putText(area, start, field.prefix, name.slice(0, cut))
      total += putText(area, start, field.name, name.slice(cut + 1))
    }
    if (link !== '') total += putText(area, start, field.linkname, link)
    total += putOctal(area, start, field.size, dataBytes > sizeMax ? 0 : dataBytes)
    total += putOctal(area, start, field.mtime, Math.min(Math.max(entry.mtimeSeconds, 0), sizeMax))
    putSum(area, start, total)
  }

  /** Of all that have this kind, mode and owner: the same object as before when the one before had them. */
  base({ kind, mode, uid, gid }: SnapshotEntry): HeaderBase {
    const known = this.#bases[kind]
    if (known !== undefined && known.mode === mode && known.uid === uid && known.gid === gid) return known
    const block = Buffer.alloc(blockBytes)
    putCommon(block, typeOf[kind])
    putOctal(block, 0, field.mode, mode)
    putOctal(block, 0, field.uid, uid > idMax ? 0 : uid)
    putOctal(block, 0, field.gid, gid > idMax ? 0 : gid)
    const base = { mode, uid, gid, block, sum: sumOf(block) }
    this.#bases[kind] = base
    return base
  }
}

/** In latin1, cut where the field ends; gives the sum of its bytes. */
function putText(area: Buffer, start: number, { at, length }: Field, text: string): number {
  let sum = 0
  for (let i = 0; i < text.length && i < length; i++) {
    const byte = text.charCodeAt(i)
    area[start + at + i] = byte
    sum += byte
  }
  return sum
}

/** What every block has; all else in it is zeros. */
export function putCommon(block: Buffer, type: string): void {
  block[field.typeflag.at] = type.charCodeAt(0)
  block.write(ustarMagic, field.magic.at, 'latin1')
  putOctal(block, 0, field.devmajor, 0)
  putOctal(block, 0, field.devminor, 0)
}

/** Where a path can be cut into a header's two fields for it; undefined when it does not fit. */
export function ustarSplit(path: string): number | undefined {
  if (path.length <= nameBytesMax) return undefined
  const cut = path.indexOf('/', path.length - nameBytesMax - 1)
  return cut < 1 || cut > field.prefix.length || cut === path.length - 1 ? undefined : cut
}

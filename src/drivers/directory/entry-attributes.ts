/** From a signature to the attributes that a copy is given. */
import type { AttributesChange, EntryPath, StoreName } from '../../stream/entry.ts'
import type { Signature } from './tree-block.ts'

export type Xattrs = Readonly<Record<string, Uint8Array>>

/** Without `xattrs` they stay as they are. */
export function attributesChange(
  store: StoreName,
  path: string,
  signature: Signature,
  xattrs: Xattrs | undefined,
): AttributesChange {
  const { uid, gid, mtimeNs } = signature
  const common = { type: 'attributes', store, path: path as EntryPath, uid, gid, mtimeNs } as const
  // a symbolic link has no mode of its own
  const own = signature.isSymlink ? common : { ...common, mode: signature.mode }
  return xattrs === undefined ? own : { ...own, xattrs }
}

/** Mode, owner and time of modification. */
export function sameMetadata(a: Signature, b: Signature): boolean {
  for (const word of [0, 1, 2, 8, 9, 12]) if (a.words[a.at + word] !== b.words[b.at + word]) return false
  return true
}

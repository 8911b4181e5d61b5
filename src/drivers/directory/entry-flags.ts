/** What the source's index remembers of an entry beside its signature. */
export const entryFlag = {
  /** It had extended attributes when it was read. */
  xattrs: 1,
  /** It was read within a tick of its last change: a later change may have left the same signature. Read it again. */
  racy: 2,
  /** What the copy has under this name is not known: send it wholly. */
  pending: 4,
  /** Told by the sink's inventory: kind, size and content are known, nothing else. */
  compare: 8,
} as const

/** Blocks of large files, each with a BLAKE3-256 of its own. Files up to this are read at once. */
export const blockBytes = 1024 * 1024
export const blockDigestBytes = 32
/**
 * Of a small file: XXH3-128 of its content, seeded. It tells whether a file that was touched has changed, many times
 * faster than BLAKE3 does for a few kilobytes; the sink takes its own digests of what it is sent.
 */
export const smallDigestBytes = 16

export function isSmall(size: number): boolean {
  return size <= blockBytes
}

/** Room for the digests of a file of this size. */
export function digestBytes(size: number): number {
  return isSmall(size) ? smallDigestBytes : Math.ceil(size / blockBytes) * blockDigestBytes
}

/**
 * Where a commit of the packs driver stands: the newest pack, how much of it, and a digest of its last bytes. Small
 * whatever the store's size: what the copy has of each file stands in the sink's inventory.
 */
import { blake3 } from '@napi-rs/blake-hash'
import { HotspareError } from '../../os/errors.ts'
import { type EntryPath, entryPath, type Position, position } from '../../stream/entry.ts'
import { barePosition } from '../../stream/numbered-position.ts'

export const tailBytesMax = 64 * 1024

export interface PacksPosition {
  readonly profile: string
  /** Which files are packs, for the profile 'generic'. */
  readonly pattern: string | undefined
  /** Counts the commits of the copy's life. */
  readonly commit: number
  readonly consistent: boolean
  /** The newest pack that was sent from, or undefined before the first. */
  readonly newest:
    | { readonly path: EntryPath; readonly offset: number; readonly tailDigest: string }
    | undefined
}

/** BLAKE3-256 of a pack's last bytes before an offset, at most `tailBytesMax`. */
export function tailDigest(tail: Buffer): string {
  return blake3(tail).toString('hex')
}

export function encodePosition(value: PacksPosition): Position {
  const { newest } = value
  return position(
    JSON.stringify({
      format: 1,
      profile: value.profile,
      ...(value.pattern === undefined ? {} : { pattern: value.pattern }),
      commit: value.commit,
      consistent: value.consistent,
      ...(newest === undefined ? {} : { pack: newest.path, offset: newest.offset, tail: newest.tailDigest }),
    }),
  )
}

export function decodePosition(text: Position): PacksPosition {
  try {
    const raw: unknown = JSON.parse(barePosition(text))
    if (typeof raw === 'object' && raw !== null && 'format' in raw && raw.format === 1) {
      const { profile, pattern, commit, consistent, pack, offset, tail } = raw as Record<string, unknown>
      const isPattern = pattern === undefined || typeof pattern === 'string'
      if (typeof profile === 'string' && isPattern && isCount(commit) && typeof consistent === 'boolean') {
        const head = { profile, pattern, commit, consistent }
        if (pack === undefined) return { ...head, newest: undefined }
        if (typeof pack === 'string' && isCount(offset) && typeof tail === 'string') {
          return { ...head, newest: { path: entryPath(pack), offset, tailDigest: tail } }
        }
      }
    }
  } catch (error) {
    if (!(error instanceof SyntaxError || error instanceof HotspareError)) throw error
  }
  throw new HotspareError(
    'state-damaged',
    `The copy's position is not one of the packs driver: ${text.slice(0, 200)}. Use --resync to compare and go on.`,
    { details: { position: text.slice(0, 1000) } },
  )
}

function isCount(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0
}

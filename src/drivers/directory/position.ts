/** Where a commit of the directory driver stands: nothing of the tree itself, only which pass of which index it was. */
import { HotspareError } from '../../os/errors.ts'
import { type Position, position } from '../../stream/entry.ts'
import { barePosition } from '../../stream/numbered-position.ts'

export interface DirectoryPosition {
  /** Counts the commits that the index has seen. */
  readonly pass: number
  /** The random name of the source's index, whose state after this commit tells what the copy has; another one after a restart. */
  readonly index: string
  /** The end of a pass: all that was found is in the copy. */
  readonly complete: boolean
  /** The application was held while the pass was read, so that the copy is consistent. */
  readonly held: boolean
}

export function encodePosition(value: DirectoryPosition): Position {
  const { pass, index, complete, held } = value
  return position(JSON.stringify({ v: 1, pass, index, complete, held }))
}

/** Throws `state-damaged`. */
export function decodePosition(text: Position): DirectoryPosition {
  try {
    const raw: unknown = JSON.parse(barePosition(text))
    if (typeof raw === 'object' && raw !== null && 'v' in raw && raw.v === 1) {
      const { pass, index, complete, held } = raw as Record<string, unknown>
      const isPass = typeof pass === 'number' && Number.isSafeInteger(pass) && pass >= 0
      if (isPass && typeof index === 'string' && typeof complete === 'boolean' && typeof held === 'boolean')
        return { pass, index, complete, held }
    }
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error
  }
  throw new HotspareError(
    'state-damaged',
    `The copy's position is not one of the directory driver: ${text.slice(0, 200)}. Use --resync to compare and go on.`,
    { details: { position: text.slice(0, 1000) } },
  )
}

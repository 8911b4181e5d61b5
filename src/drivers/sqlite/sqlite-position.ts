/** Where a copy stands in a database's history, as text for the sink to keep. */
import { z } from 'zod'
import { type Position, position } from '../../stream/entry.ts'

const word = z.int().min(0).max(0xffffffff)

const schema = z.discriminatedUnion('kind', [
  /** After a commit frame of the log (frame 0: the log has no frame yet). */
  z.strictObject({
    v: z.literal(1),
    kind: z.literal('wal'),
    pageBytes: z.int(),
    bigEndian: z.boolean(),
    salt1: word,
    salt2: word,
    frame: z.int().min(0),
    s1: word,
    s2: word,
    state: z.string(),
  }),
  /** No log to stand in (empty, or not in WAL mode): only a comparison can go on from here. */
  z.strictObject({ v: z.literal(1), kind: z.literal('compared'), state: z.string() }),
  /** In the middle of a first copy. */
  z.strictObject({ v: z.literal(1), kind: z.literal('copying') }),
])

export type SqlitePosition = z.infer<typeof schema>

export function encodePosition(value: SqlitePosition): Position {
  return position(JSON.stringify(value))
}

/** Undefined when it is none of ours (another driver's, another version's): then only a comparison is right. */
export function decodePosition(text: Position | undefined): SqlitePosition | undefined {
  if (text === undefined) return undefined
  try {
    return schema.parse(JSON.parse(text))
  } catch {
    return undefined
  }
}

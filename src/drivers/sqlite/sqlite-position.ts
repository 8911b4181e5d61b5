/** Where a copy stands in a database's history, as text for the sink to keep. */
import * as v from 'valibot'
import { type Position, position } from '../../stream/entry.ts'
import { barePosition } from '../../stream/numbered-position.ts'

const word = v.pipe(v.number(), v.safeInteger(), v.minValue(0), v.maxValue(0xffffffff))

const schema = v.variant('kind', [
  /** After a commit frame of the log (frame 0: the log has no frame yet). */
  v.strictObject({
    v: v.literal(1),
    kind: v.literal('wal'),
    pageBytes: v.pipe(v.number(), v.safeInteger()),
    bigEndian: v.boolean(),
    salt1: word,
    salt2: word,
    frame: v.pipe(v.number(), v.safeInteger(), v.minValue(0)),
    s1: word,
    s2: word,
    state: v.string(),
  }),
  /** No log to stand in (empty, or not in WAL mode): only a comparison can go on from here. */
  v.strictObject({ v: v.literal(1), kind: v.literal('compared'), state: v.string() }),
  /** In the middle of a first copy. */
  v.strictObject({ v: v.literal(1), kind: v.literal('copying') }),
])

export type SqlitePosition = v.InferOutput<typeof schema>

export function encodePosition(value: SqlitePosition): Position {
  return position(JSON.stringify(value))
}

/** Undefined when it is none of ours (another driver's, another version's): then only a comparison is right. */
export function decodePosition(text: Position | undefined): SqlitePosition | undefined {
  if (text === undefined) return undefined
  try {
    return v.parse(schema, JSON.parse(barePosition(text)))
  } catch {
    return undefined
  }
}

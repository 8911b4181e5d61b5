/** `state.json` as bytes: every field is checked before it is believed. */
import * as v from 'valibot'
import { HotspareError } from '../os/errors.ts'
import type { ServerState } from './state.ts'

/** A newer number is refused, never read as if it were ours. */
export const stateFormat = 1

const text = v.pipe(v.string(), v.maxLength(64 * 1024))
const named = v.pipe(v.string(), v.regex(/^[A-Za-z0-9._-]{1,64}$/))
const number = v.pipe(v.number(), v.safeInteger(), v.minValue(0))
const epoch = v.strictObject({ number: v.pipe(number, v.minValue(1)), by: text })
const moment = v.number()

const quarantine = v.strictObject({ number, code: text, message: text, atMs: moment, file: v.optional(text) })

const store = v.strictObject({
  base: v.optional(v.strictObject({ position: v.pipe(text, v.minLength(1)), number })),
  until: v.optional(number),
  asFound: v.optional(v.boolean()),
  quarantine: v.optional(quarantine),
})

const lost = v.variant('kind', [
  v.strictObject({ kind: v.literal('nothing') }),
  v.strictObject({ kind: v.literal('known'), fromNumber: number, sinceMs: v.optional(moment) }),
  v.strictObject({ kind: v.literal('unknown'), afterNumber: number, sinceMs: v.optional(moment) }),
])

const promotion = v.strictObject({
  epoch,
  planned: v.boolean(),
  reached: v.picklist(['asked', 'raised', 'released', 'announced']),
  atMs: moment,
  result: v.optional(
    v.strictObject({
      number,
      timeMs: v.optional(moment),
      lost,
      stores: v.array(
        v.strictObject({
          store: named,
          path: text,
          position: v.optional(text),
          valid: v.boolean(),
          findings: v.array(text),
          lacks: v.optional(v.strictObject({ fromNumber: number, sinceMs: moment })),
          unread: v.optional(v.literal(true)),
        }),
      ),
      withoutWriterMs: v.optional(v.number()),
    }),
  ),
  checks: v.optional(
    v.record(named, v.strictObject({ valid: v.boolean(), findings: v.array(text), atMs: moment })),
  ),
})

const rejoining = v.strictObject({
  upstream: text,
  aside: v.optional(v.strictObject({ path: text, fromNumber: number, transactions: number })),
  wholes: v.optional(v.array(v.strictObject({ store: named, path: text }))),
})

const schema = v.strictObject({
  format: v.literal(stateFormat),
  set: text,
  name: text,
  stream: text,
  epoch,
  role: v.picklist(['primary', 'standby']),
  upstream: v.optional(text),
  fencedBy: v.optional(epoch),
  handedOver: v.optional(v.strictObject({ epoch, number })),
  enqueuing: v.boolean(),
  applying: v.boolean(),
  promotion: v.optional(promotion),
  rejoining: v.optional(rejoining),
  stores: v.record(named, store),
})

/** Throws `state-damaged` or `state-version`. */
export function parseState(path: string, json: string): ServerState {
  const raw = parsed(json)
  const format = v.safeParse(v.object({ format: v.number() }), raw)
  if (format.success && format.output.format !== stateFormat) {
    throw new HotspareError(
      'state-version',
      `${path} has format ${format.output.format}; this hotspare reads ${stateFormat}. Use the version that wrote it.`,
    )
  }
  const result = v.safeParse(schema, raw)
  if (!result.success) {
    throw new HotspareError(
      'state-damaged',
      `${path} is damaged (${v.summarize(result.issues).split('\n')[0]}). The server's role and epoch stand there, so it does not start without: put back a copy of it; or set the server up anew in an empty state directory, and synchronise it.`,
    )
  }
  const { format: _format, ...state } = result.output
  // the brands of what was checked above: names, positions
  return state as unknown as ServerState
}

function parsed(json: string): unknown {
  try {
    return JSON.parse(json)
  } catch {
    return undefined
  }
}

/**
 * What a command and a running server say to each other over `control` in the state directory: one request a
 * connection, JSON, a line each way. The end of the connection gives up what was asked for and can be given up.
 */
import * as v from 'valibot'

export const serverProtocolVersion = 1
export const serverSocketName = 'control'
/** Of a request. An answer is trusted: it comes from a socket of mode 0600 in a directory of ours. */
export const requestBytesMax = 64 * 1024

const peer = v.pipe(v.string(), v.maxLength(64))

export const serverRequestSchema = v.variant('request', [
  v.object({ v: v.number(), request: v.literal('status') }),
  v.object({ v: v.number(), request: v.literal('messages'), count: v.number() }),
  v.object({ v: v.number(), request: v.literal('enqueue'), on: v.boolean() }),
  v.object({ v: v.number(), request: v.literal('apply'), on: v.boolean() }),
  v.object({
    v: v.number(),
    request: v.literal('probe'),
    peer,
    bytes: v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(1024 * 1024)),
  }),
  v.object({ v: v.number(), request: v.literal('wait'), peer }),
  v.object({
    v: v.number(),
    request: v.literal('promote'),
    planned: v.boolean(),
    dryRun: v.boolean(),
    force: v.optional(v.boolean(), false),
  }),
  v.object({ v: v.number(), request: v.literal('rejoin'), upstream: peer }),
  v.object({
    v: v.number(),
    request: v.literal('release'),
    store: peer,
    how: v.picklist(['retry', 'synchronise']),
  }),
])

export const serverAnswerSchema = v.variant('answer', [
  v.object({ v: v.number(), answer: v.literal('done'), value: v.unknown() }),
  v.object({ v: v.number(), answer: v.literal('failed'), code: v.string(), message: v.string() }),
])

export type ServerRequest = v.InferOutput<typeof serverRequestSchema>
export type ServerRequestBody = ServerRequest extends infer R
  ? R extends unknown
    ? Omit<R, 'v'>
    : never
  : never
export type ServerAnswer = v.InferOutput<typeof serverAnswerSchema>
export type ServerAnswerBody = ServerAnswer extends infer A
  ? A extends unknown
    ? Omit<A, 'v'>
    : never
  : never

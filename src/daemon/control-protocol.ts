/**
 * What a mirror and a running follower say to each other over `control` in the sidecar: JSON, one object a line.
 *
 * The mirror asks, the follower answers in order of what happens. Every line names the version; a follower that does not
 * know it says so and closes. The end of the connection gives up what was asked for and is not done.
 */
import type { Socket } from 'node:net'
import * as v from 'valibot'
import { parseJson } from '../replica/meta.ts'

export const controlVersion = 1
export const controlName = 'control'
export const lineBytesMax = 256 * 1024
const ignoreMax = 16

export const requestSchema = v.variant('request', [
  v.object({
    v: v.number(),
    request: v.literal('pass'),
    ignore: v.optional(v.pipe(v.array(v.pipe(v.string(), v.maxLength(4096))), v.maxLength(ignoreMax)), []),
  }),
  v.object({ v: v.number(), request: v.literal('hold') }),
  v.object({ v: v.number(), request: v.literal('conclude'), keep: v.boolean() }),
])

const reportSchema = v.object({ bytes: v.number(), files: v.number(), removed: v.number() })

export const answerSchema = v.variant('answer', [
  /** The pass is durable. */
  v.object({ v: v.number(), answer: v.literal('passed'), report: reportSchema }),
  /** Everything inside the window was read. */
  v.object({
    v: v.number(),
    answer: v.literal('read'),
    report: v.object({
      ...reportSchema.entries,
      changed: v.array(v.string()),
      changedCount: v.number(),
      consistent: v.boolean(),
    }),
  }),
  v.object({ v: v.number(), answer: v.literal('durable') }),
  /** The read does not count; the fault follows, unless it was the mirror that gave it up. */
  v.object({ v: v.number(), answer: v.literal('abandoned') }),
  v.object({
    v: v.number(),
    answer: v.literal('failed'),
    code: v.string(),
    message: v.string(),
  }),
])

export type ControlRequest = v.InferOutput<typeof requestSchema>
export type ControlAnswer = v.InferOutput<typeof answerSchema>
type WithoutVersion<T> = T extends unknown ? Omit<T, 'v'> : never

export function sendLine(socket: Socket, message: WithoutVersion<ControlRequest | ControlAnswer>): void {
  if (!socket.destroyed) socket.write(`${JSON.stringify({ v: controlVersion, ...message })}\n`)
}

/** Calls with each whole line, parsed; what is no JSON comes as undefined. Ends a connection whose line is too long. */
export function readLines(socket: Socket, onLine: (json: unknown) => void): void {
  let waiting = ''
  socket.setEncoding('utf8')
  socket.on('data', (text: string) => {
    waiting += text
    for (let end = waiting.indexOf('\n'); end >= 0; end = waiting.indexOf('\n')) {
      const line = waiting.slice(0, end)
      waiting = waiting.slice(end + 1)
      onLine(parseJson(line))
    }
    if (waiting.length > lineBytesMax) socket.destroy()
  })
}

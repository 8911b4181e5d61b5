/**
 * What a mirror and a running follower say to each other over `control` in the sidecar: JSON, one object a line.
 *
 * The mirror asks, the follower answers in order of what happens. Every line names the version; a follower that does not
 * know it says so and closes. The end of the connection gives up what was asked for and is not done.
 */
import type { Socket } from 'node:net'
import { z } from 'zod'
import { parseJson } from './meta.ts'

export const controlVersion = 1
export const controlName = 'control'
export const lineBytesMax = 256 * 1024
const ignoreMax = 16

export const requestSchema = z.discriminatedUnion('request', [
  z.object({
    v: z.number(),
    request: z.literal('pass'),
    ignore: z.array(z.string().max(4096)).max(ignoreMax).default([]),
  }),
  z.object({ v: z.number(), request: z.literal('hold') }),
  z.object({ v: z.number(), request: z.literal('conclude'), keep: z.boolean() }),
])

const reportSchema = z.object({ bytes: z.number(), files: z.number(), removed: z.number() })

export const answerSchema = z.discriminatedUnion('answer', [
  /** The pass is durable. */
  z.object({ v: z.number(), answer: z.literal('passed'), report: reportSchema }),
  /** Everything inside the window was read. */
  z.object({
    v: z.number(),
    answer: z.literal('read'),
    report: reportSchema.extend({
      changed: z.array(z.string()),
      changedCount: z.number(),
      consistent: z.boolean(),
    }),
  }),
  z.object({ v: z.number(), answer: z.literal('durable') }),
  /** The read does not count; the fault follows, unless it was the mirror that gave it up. */
  z.object({ v: z.number(), answer: z.literal('abandoned') }),
  z.object({
    v: z.number(),
    answer: z.literal('failed'),
    code: z.string(),
    message: z.string(),
  }),
])

export type ControlRequest = z.infer<typeof requestSchema>
export type ControlAnswer = z.infer<typeof answerSchema>
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

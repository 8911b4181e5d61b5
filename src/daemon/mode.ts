/**
 * How an application's maintenance mode is entered, left and looked at, as plain data: so it can be put into a lease,
 * and left by another process than the one that entered it.
 */
import { z } from 'zod'

const commandSchema = z.object({
  run: z.union([z.string(), z.array(z.string()).min(1)]),
  directory: z.string().optional(),
  user: z.string().optional(),
})

const signSchema = z.union([z.object({ exit: z.number() }), z.object({ prints: z.string() })])

const verificationSchema = commandSchema.extend({
  /** What says that it is on: exit status 0 unless told otherwise. */
  on: signSchema.optional(),
  /** What says that it is off: whatever does not say that it is on, unless told otherwise. */
  off: signSchema.optional(),
})

const commandsSchema = z.object({
  kind: z.literal('commands'),
  enter: commandSchema,
  leave: commandSchema,
  verify: verificationSchema.optional(),
  refresh: commandSchema.optional(),
})

const flagFileSchema = z.object({
  kind: z.literal('flag-file'),
  path: z.string(),
  text: z.string(),
})

const httpSchema = z.object({
  kind: z.literal('http'),
  enter: z.string(),
  leave: z.string(),
  status: z.string().optional(),
  /** A file of mode 0600 with lines `Name: value`; only its path is kept. */
  headersFile: z.string().optional(),
})

export const modeSchema = z.discriminatedUnion('kind', [commandsSchema, flagFileSchema, httpSchema])

export type Sign = z.infer<typeof signSchema>
export type ModeCommand = z.infer<typeof commandSchema>
export type Verification = z.infer<typeof verificationSchema>
/** Sets of commands, a file that is there while the mode is on, or HTTP calls. */
export type Mode = z.infer<typeof modeSchema>

/** What is done to leave it: two mirrors with the same one hold the same application. */
export function leaveKey(mode: Mode): string {
  switch (mode.kind) {
    case 'commands':
      return JSON.stringify([mode.leave.run, mode.leave.directory ?? '', mode.leave.user ?? ''])
    case 'flag-file':
      return JSON.stringify([mode.path])
    case 'http':
      return JSON.stringify([mode.leave])
  }
}

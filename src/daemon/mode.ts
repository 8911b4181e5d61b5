/**
 * How an application's maintenance mode is entered, left and looked at, as plain data: so it can be put into a lease,
 * and left by another process than the one that entered it.
 */
import * as v from 'valibot'

const commandSchema = v.object({
  run: v.union([v.string(), v.pipe(v.array(v.string()), v.minLength(1))]),
  directory: v.optional(v.string()),
  user: v.optional(v.string()),
})

const signSchema = v.union([v.object({ exit: v.number() }), v.object({ prints: v.string() })])

const verificationSchema = v.object({
  ...commandSchema.entries,
  /** What says that it is on: exit status 0 unless told otherwise. */
  on: v.optional(signSchema),
  /** What says that it is off: whatever does not say that it is on, unless told otherwise. */
  off: v.optional(signSchema),
})

const commandsSchema = v.object({
  kind: v.literal('commands'),
  enter: commandSchema,
  leave: commandSchema,
  verify: v.optional(verificationSchema),
  refresh: v.optional(commandSchema),
})

const flagFileSchema = v.object({
  kind: v.literal('flag-file'),
  path: v.string(),
  text: v.string(),
})

const httpSchema = v.object({
  kind: v.literal('http'),
  enter: v.string(),
  leave: v.string(),
  status: v.optional(v.string()),
  /** A file of mode 0600 with lines `Name: value`; only its path is kept. */
  headersFile: v.optional(v.string()),
})

export const modeSchema = v.variant('kind', [commandsSchema, flagFileSchema, httpSchema])

export type Sign = v.InferOutput<typeof signSchema>
export type ModeCommand = v.InferOutput<typeof commandSchema>
export type Verification = v.InferOutput<typeof verificationSchema>
/** Sets of commands, a file that is there while the mode is on, or HTTP calls. */
export type Mode = v.InferOutput<typeof modeSchema>

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

/**
 * `status.json` in the sidecar: what the follower last said of itself, for `hotspare status`.
 *
 * Written aside and renamed, so a reader never sees half of it, and not synced: after a power loss it may be old or
 * empty, which costs a figure on a screen and nothing else. Nothing that keeps the copy right reads it.
 */
import { z } from 'zod'
import { readSmallFile, type Storage } from '../os/storage.ts'
import { parseJson } from './meta.ts'

const statusBytesMax = 1024 * 1024

const commitSchema = z.object({
  position: z.string(),
  timeMs: z.number(),
  state: z.string().optional(),
})

const schema = z.object({
  pid: z.number(),
  state: z.enum(['starting', 'copying', 'live', 'behind', 'retrying', 'stopped']),
  updatedMs: z.number(),
  startedMs: z.number(),
  position: z.string().optional(),
  consistent: commitSchema.optional(),
  /** Of a store that is consistent only inside maintenance windows: the copy has had all of it. */
  complete: z.boolean().optional(),
  /** Everything that the source had committed before this is in the copy. */
  knownMs: z.number().optional(),
  lagMs: z.number().optional(),
  backlogBytes: z.number().optional(),
  bytes: z.number(),
  transactions: z.number(),
  lastError: z.object({ code: z.string(), message: z.string(), timeMs: z.number() }).optional(),
})

export type FollowerStatus = z.infer<typeof schema>

/** Undefined when there is none that can be read. */
export async function readStatusFile(storage: Storage, sidecar: string): Promise<FollowerStatus | undefined> {
  const bytes = await readSmallFile(storage, `${sidecar}/status.json`, statusBytesMax)
  return bytes === undefined ? undefined : schema.safeParse(parseJson(bytes.toString('utf8'))).data
}

export async function writeStatusFile(
  storage: Storage,
  sidecar: string,
  status: FollowerStatus,
): Promise<void> {
  const path = `${sidecar}/status.json`
  await storage.remove(`${path}.tmp`)
  const file = await storage.open(`${path}.tmp`, 'create-new')
  try {
    await file.write(Buffer.from(`${JSON.stringify(status)}\n`), 0)
  } finally {
    await file.close()
  }
  await storage.rename(`${path}.tmp`, path)
}

/**
 * `status.json` in the sidecar: what the follower last said of itself, for `hotspare status`.
 *
 * Written aside and renamed, so a reader never sees half of it, and not synced: after a power loss it may be old or
 * empty, which costs a figure on a screen and nothing else. Nothing that keeps the copy right reads it.
 */
import * as v from 'valibot'
import { readSmallFile, type Storage } from '../os/storage.ts'
import { parsed, parseJson } from './meta.ts'

const statusBytesMax = 1024 * 1024

const commitSchema = v.object({
  position: v.string(),
  timeMs: v.number(),
  state: v.optional(v.string()),
})

const schema = v.object({
  pid: v.number(),
  state: v.picklist(['starting', 'copying', 'live', 'behind', 'retrying', 'stopped']),
  updatedMs: v.number(),
  startedMs: v.number(),
  position: v.optional(v.string()),
  consistent: v.optional(commitSchema),
  /** Of a store that is consistent only inside maintenance windows: the copy has had all of it. */
  complete: v.optional(v.boolean()),
  /** Everything that the source had committed before this is in the copy. */
  knownMs: v.optional(v.number()),
  lagMs: v.optional(v.number()),
  backlogBytes: v.optional(v.number()),
  bytes: v.number(),
  transactions: v.number(),
  lastError: v.optional(v.object({ code: v.string(), message: v.string(), timeMs: v.number() })),
})

export type FollowerStatus = v.InferOutput<typeof schema>

/** Undefined when there is none that can be read. */
export async function readStatusFile(storage: Storage, sidecar: string): Promise<FollowerStatus | undefined> {
  const bytes = await readSmallFile(storage, `${sidecar}/status.json`, statusBytesMax)
  return bytes === undefined ? undefined : parsed(schema, parseJson(bytes.toString('utf8')))
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

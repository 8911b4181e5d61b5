/**
 * `meta.json` in the sidecar: of what the copy is one. Written durably before the first byte of a copy, so that a
 * copy without it was not made by us.
 */
import * as v from 'valibot'
import { HotspareError } from '../os/errors.ts'
import { readSmallFile, type Storage, writeFileDurably } from '../os/storage.ts'
import { type StoreName, storeName } from '../stream/entry.ts'

/** Of the sidecar as a whole. A newer number is refused, never read as if it were ours. */
export const sidecarFormat = 1
const metaBytesMax = 64 * 1024

const schema = v.object({
  format: v.literal(sidecarFormat),
  driver: v.pipe(v.string(), v.minLength(1)),
  profile: v.optional(v.string()),
  pattern: v.optional(v.string()),
  /** As it was given (absolute), and where it really is. */
  source: v.string(),
  sourceReal: v.string(),
  store: v.string(),
})

export interface Meta {
  readonly driver: string
  readonly profile?: string
  readonly pattern?: string
  readonly source: string
  readonly sourceReal: string
  readonly store: StoreName
}

export function metaPath(sidecar: string): string {
  return `${sidecar}/meta.json`
}

/** Undefined when there is none. Throws `state-version` or `state-damaged`. */
export async function readMeta(storage: Storage, sidecar: string): Promise<Meta | undefined> {
  const path = metaPath(sidecar)
  const bytes = await readSmallFile(storage, path, metaBytesMax)
  if (bytes === undefined) return undefined
  const json = parseJson(bytes.toString('utf8'))
  const format = v.safeParse(v.object({ format: v.number() }), json)
  if (format.success && format.output.format !== sidecarFormat) {
    throw new HotspareError(
      'state-version',
      `${path} has format ${format.output.format}; this hotspare reads ${sidecarFormat}. Use the version that wrote it, or remove copy and sidecar and follow again.`,
    )
  }
  const meta = v.safeParse(schema, json)
  if (!meta.success) {
    throw new HotspareError(
      'state-damaged',
      `${path} is damaged (${v.summarize(meta.issues).split('\n')[0]}). Remove the sidecar and follow again with --resync.`,
    )
  }
  const { driver, profile, pattern, source, sourceReal, store } = meta.output
  return {
    driver,
    source,
    sourceReal,
    store: storeName(store),
    ...(profile === undefined ? {} : { profile }),
    ...(pattern === undefined ? {} : { pattern }),
  }
}

/**
 * Needs no space when nothing has changed: what a full disk cut short is tidied up by a start that has to come so far.
 */
export async function writeMeta(storage: Storage, sidecar: string, meta: Meta): Promise<void> {
  const path = metaPath(sidecar)
  const bytes = Buffer.from(`${JSON.stringify({ format: sidecarFormat, ...meta }, undefined, 2)}\n`)
  const found = await readSmallFile(storage, path, metaBytesMax)
  if (found?.equals(bytes) !== true) return writeFileDurably(storage, path, bytes)
  // who renamed it may have been killed before that was durable
  await storage.syncDirectory(sidecar)
}

/**
 * The path is a live store from here on: nobody takes it for a copy any more. Durable when it resolves; idempotent. What
 * else is in the sidecar stays, for when it becomes a copy again.
 */
export async function putMetaAside(storage: Storage, sidecar: string): Promise<void> {
  const path = metaPath(sidecar)
  if ((await storage.stat(sidecar)) === undefined) return
  if ((await storage.stat(path)) !== undefined) await storage.rename(path, `${path}.aside`)
  await storage.syncDirectory(sidecar)
}

/** Undefined when it is not as the schema says. */
export function parsed<Schema extends v.GenericSchema>(
  schema: Schema,
  json: unknown,
): v.InferOutput<Schema> | undefined {
  const result = v.safeParse(schema, json)
  return result.success ? result.output : undefined
}

export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

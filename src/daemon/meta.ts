/**
 * `meta.json` in the sidecar: of what the copy is one. Written durably before the first byte of a copy, so that a
 * copy without it was not made by us.
 */
import { z } from 'zod'
import { HotspareError } from '../os/errors.ts'
import { readSmallFile, type Storage, writeFileDurably } from '../os/storage.ts'
import { type StoreName, storeName } from '../stream/entry.ts'

/** Of the sidecar as a whole. A newer number is refused, never read as if it were ours. */
export const sidecarFormat = 1
const metaBytesMax = 64 * 1024

const schema = z.object({
  format: z.literal(sidecarFormat),
  driver: z.string().min(1),
  profile: z.string().optional(),
  pattern: z.string().optional(),
  /** As it was given (absolute), and where it really is. */
  source: z.string(),
  sourceReal: z.string(),
  store: z.string(),
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
  const format = z.object({ format: z.number() }).safeParse(json)
  if (format.success && format.data.format !== sidecarFormat) {
    throw new HotspareError(
      'state-version',
      `${path} has format ${format.data.format}; this hotspare reads ${sidecarFormat}. Use the version that wrote it, or remove copy and sidecar and follow again.`,
    )
  }
  const parsed = schema.safeParse(json)
  if (!parsed.success) {
    throw new HotspareError(
      'state-damaged',
      `${path} is damaged (${z.prettifyError(parsed.error).split('\n')[0]}). Remove the sidecar and follow again with --resync.`,
    )
  }
  const { driver, profile, pattern, source, sourceReal, store } = parsed.data
  return {
    driver,
    source,
    sourceReal,
    store: storeName(store),
    ...(profile === undefined ? {} : { profile }),
    ...(pattern === undefined ? {} : { pattern }),
  }
}

export async function writeMeta(storage: Storage, sidecar: string, meta: Meta): Promise<void> {
  const text = `${JSON.stringify({ format: sidecarFormat, ...meta }, undefined, 2)}\n`
  await writeFileDurably(storage, metaPath(sidecar), Buffer.from(text))
}

export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

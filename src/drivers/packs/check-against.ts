/**
 * Compares a copy with the live source: each pack of the copy is a prefix of the source's, every pack but the newest is
 * whole, and nothing is missing. The source goes on growing meanwhile, so it may be ahead.
 */
import type { Storage, StorageFile } from '../../os/storage.ts'
import { displayPath, entryPath, nativePath } from '../../stream/entry.ts'
import { viewDirectory } from './directory-view.ts'
import { type Finding, proved, refuted, some } from './finding.ts'
import type { Layout, Profile } from './profile.ts'
import { isZero } from './zero-tail.ts'

const compareBytes = 1024 * 1024

export interface AgainstOptions {
  readonly storage: Storage
  readonly profile: Profile
  /** The copy, and what of it counts: names with sizes. */
  readonly copy: string
  readonly sizes: ReadonlyMap<string, number>
  readonly layout: Layout
  readonly source: string
  readonly signal: AbortSignal
  onBytes(bytes: number): void
}

export async function checkAgainst(options: AgainstOptions): Promise<Finding[]> {
  const { profile, storage, source, layout } = options
  const view = await viewDirectory(storage, source)
  const live = await profile.layout(view)
  if (live === undefined) return [refuted(`${source} is in the middle of a change; check again`)]
  const findings: Finding[] = []
  const kept: string[] = []
  const newest = layout.packs.at(-1)
  let behindBytes = 0
  for (const name of layout.packs) {
    options.signal.throwIfAborted()
    const stat = view.entries.get(name)
    if (stat === undefined) {
      kept.push(displayPath(name))
      continue
    }
    const at = await firstDifference(options, name)
    if (at !== undefined)
      findings.push(refuted(`pack ${displayPath(name)} differs from the source at offset ${at}`))
    const isNewest = name === newest
    const behind = await unsentBytes(options, name, isNewest)
    behindBytes += behind
    if (behind > 0 && !isNewest && profile.vanished === 'finish') {
      findings.push(refuted(`pack ${displayPath(name)} lacks ${behind} bytes, though a newer pack is there`))
    }
  }
  const copied = new Set(layout.packs)
  const lacking = live.packs.filter(name => !copied.has(name))
  const lost = lacking.filter(
    name => profile.vanished === 'finish' && newest !== undefined && profile.compare(name, newest) < 0,
  )
  if (lost.length > 0) findings.push(refuted(`the copy lacks packs: ${some(lost.map(displayPath))}`))
  for (const name of lacking) behindBytes += view.entries.get(name)?.size ?? 0
  if (findings.length > 0) return findings
  const ahead = behindBytes === 0 ? 'the copy has all of it' : `the source is ${behindBytes} bytes ahead`
  findings.push(proved(`every pack is a prefix of the one at ${source}; ${ahead}`))
  if (kept.length > 0) findings.push(proved(`kept, and deleted at the source: ${some(kept)}`))
  return findings
}

/** The first byte of the copy's pack that the source's does not have; undefined when it is a prefix. */
async function firstDifference(options: AgainstOptions, name: string): Promise<number | undefined> {
  const { storage, copy, source, sizes } = options
  const size = sizes.get(name) ?? 0
  const files: StorageFile[] = []
  try {
    for (const root of [copy, source])
      files.push(await storage.open(nativePath(root, entryPath(name)), 'read'))
    const buffers = [Buffer.allocUnsafe(compareBytes), Buffer.allocUnsafe(compareBytes)]
    for (let offset = 0; offset < size; offset += compareBytes) {
      options.signal.throwIfAborted()
      const length = Math.min(compareBytes, size - offset)
      const [ours, theirs] = buffers.map(buffer => buffer.subarray(0, length)) as [Buffer, Buffer]
      const read = await Promise.all([files[0]!.read(ours, offset), files[1]!.read(theirs, offset)])
      const both = Math.min(...read)
      if (both < length || !ours.equals(theirs)) {
        const at = ours.subarray(0, both).findIndex((byte, index) => byte !== theirs[index])
        return offset + (at < 0 ? both : at)
      }
      options.onBytes(length)
    }
    return undefined
  } finally {
    for (const file of files) await file.close()
  }
}

/** What the source's pack has beyond the copy's; in the newest, zeros that were allocated in advance do not count. */
async function unsentBytes(
  { storage, source, sizes }: AgainstOptions,
  name: string,
  isNewest: boolean,
): Promise<number> {
  const file = await storage.open(nativePath(source, entryPath(name)), 'read')
  try {
    const { size } = await file.stat()
    const copied = sizes.get(name) ?? 0
    if (size <= copied || !isNewest) return Math.max(0, size - copied)
    const tail = Buffer.alloc(Math.min(compareBytes, size - copied))
    await file.read(tail, size - tail.length)
    return isZero(tail) ? 0 : size - copied
  } finally {
    await file.close()
  }
}

/**
 * Proves that a copy of packs is valid, also while it is followed: block by block equal to what was recorded when it was
 * received, then whatever its profile can prove, then, when asked, that it is a prefix of the live source.
 */
import { HotspareError, isSystemError } from '../../os/errors.ts'
import { type FileStat, readSmallFile, type Storage } from '../../os/storage.ts'
import { cloneFileCopy } from '../../replica/clone.ts'
import { openRecordedCopy } from '../../replica/file-inventory.ts'
import { displayPath, entryPath, nativePath } from '../../stream/entry.ts'
import type { Inventory, InventoryFile } from '../../stream/sink.ts'
import type { CheckOptions, CheckReport } from '../driver.ts'
import { checkAgainst } from './check-against.ts'
import { checkPrometheusWal } from './check-prometheus.ts'
import { checkRedisCopy } from './check-redis.ts'
import { checkSequence } from './check-sequence.ts'
import { blockCount, firstDifference, isComparable } from './digest-blocks.ts'
import { type Finding, proved, refuted } from './finding.ts'
import { decodePosition } from './position.ts'
import { type DirectoryView, type Layout, type Profile, readSmallBytesMax } from './profile.ts'
import { profileNamed } from './profiles.ts'

const blocksAtOnce = 16
/** A follower may replace or remove a file between the reading of its record and of its bytes. */
const retriesMax = 10
const retryMs = 100

/** Throws `target-incomplete` when the copy has no consistent commit, `state-damaged` when its state can't be read. */
export async function checkPacks(options: CheckOptions): Promise<CheckReport> {
  const { storage, path, signal, against } = options
  let { inventory, profile } = await openCopy(options)
  const findings: Finding[] = []
  const progress = new Progress(options)
  const sizes = new Map<string, number>()
  for await (const file of inventory.files()) {
    progress.expect(against === undefined ? file.size : 2 * file.size)
    sizes.set(file.path, file.size)
  }
  let retries = 0
  for (const name of [...sizes.keys()]) {
    for (;;) {
      const recorded = await inventory.file(entryPath(name))
      const harm =
        recorded === undefined
          ? undefined
          : await differenceFromRecorded(storage, path, recorded, signal, progress)
      if (recorded === undefined) sizes.delete(name)
      else sizes.set(name, recorded.size)
      if (harm === undefined) break
      if (retries++ >= retriesMax) {
        findings.push(refuted(`${displayPath(name)} ${harm}`))
        break
      }
      await options.clock.sleep(retryMs, signal)
      inventory = (await openCopy(options)).inventory
    }
  }
  const foreign = await unrecorded(options, sizes)
  findings.push(...foreign.map(name => refuted(`${displayPath(name)} was put there by somebody else`)))
  if (findings.length === 0) {
    findings.push(
      proved(`${sizes.size} files are, block by block, what was recorded when they were received`),
    )
  }

  const layout = await profile.layout(recordedView(storage, path, sizes))
  if (layout === undefined)
    findings.push(refuted('the manifest is not valid, or names files that are not there'))
  else findings.push(...(await checkLayout(options, profile, layout)))
  if (layout !== undefined && against !== undefined) {
    const onBytes = (bytes: number) => progress.add(bytes)
    const both = { storage, profile, copy: path, sizes, layout, source: against, signal, onBytes }
    findings.push(...(await checkAgainst(both)))
  }
  return { valid: findings.every(finding => finding.ok), findings, bytes: progress.bytes }
}

/** Names in the copy that its record does not know, also not when it is read again. */
async function unrecorded(options: CheckOptions, sizes: ReadonlyMap<string, number>): Promise<string[]> {
  const known = new Set([...sizes.keys()].map(topName))
  let unknown = (await options.storage.list(options.path)).filter(name => !known.has(name))
  for (let retries = 0; unknown.length > 0 && retries < retriesMax; retries++) {
    // a follower may have made it just now
    const { inventory } = await openCopy(options)
    for await (const file of inventory.files()) known.add(topName(file.path))
    const there = new Set(await options.storage.list(options.path))
    unknown = unknown.filter(name => there.has(name) && !known.has(name))
    if (unknown.length > 0) await options.clock.sleep(retryMs, options.signal)
  }
  return unknown
}

function topName(path: string): string {
  const cut = path.indexOf('/')
  return cut < 0 ? path : path.slice(0, cut)
}

async function openCopy(options: CheckOptions): Promise<{ inventory: Inventory; profile: Profile }> {
  const recorded = await openRecordedCopy(options.storage, options.sidecar)
  if (recorded?.consistent === undefined) {
    throw new HotspareError(
      'target-incomplete',
      `The copy ${options.path} is not complete yet. Follow its source until it is.`,
      { details: { path: options.path } },
    )
  }
  const { profile, pattern } = decodePosition(recorded.consistent.position)
  return { inventory: recorded.inventory, profile: profileNamed(profile, pattern) }
}

async function checkLayout(options: CheckOptions, profile: Profile, layout: Layout): Promise<Finding[]> {
  switch (profile.name) {
    case 'redis-aof':
      return checkRedisCopy(options, layout, cloneFileCopy)
    case 'prometheus-wal': {
      const damage = await checkPrometheusWal(options.storage, options.path, layout, options.signal)
      return [...checkSequence(profile, layout), ...damage]
    }
    default:
      return checkSequence(profile, layout)
  }
}

/** What is wrong, in words that follow the file's name; undefined when nothing is. */
async function differenceFromRecorded(
  storage: Storage,
  root: string,
  recorded: InventoryFile,
  signal: AbortSignal,
  progress: Progress,
): Promise<string | undefined> {
  if (!isComparable(recorded)) return `is recorded with digests of an unknown kind (${recorded.digest})`
  let file: Awaited<ReturnType<Storage['open']>>
  try {
    file = await storage.open(nativePath(root, recorded.path), 'read')
  } catch (error) {
    if (isSystemError(error, 'ENOENT')) return 'is not there'
    throw error
  }
  try {
    const blocks = blockCount(recorded)
    for (let first = 0; first < blocks; first += blocksAtOnce) {
      signal.throwIfAborted()
      const count = Math.min(blocksAtOnce, blocks - first)
      const at = await firstDifference(file, recorded, { first, count })
      if (at !== undefined) return `differs from what was received, in the block at offset ${at}`
      progress.add(Math.min(count * recorded.blockBytes, recorded.size - first * recorded.blockBytes))
    }
    return undefined
  } finally {
    await file.close()
  }
}

/** The copy as it was recorded; a follower may have gone on meanwhile. */
function recordedView(storage: Storage, root: string, sizes: ReadonlyMap<string, number>): DirectoryView {
  const entries = new Map<string, FileStat>()
  for (const [path, size] of sizes) {
    const cut = path.indexOf('/')
    if (cut < 0) entries.set(path, recordedStat('file', size))
    else entries.set(path.slice(0, cut), recordedStat('directory', 0))
  }
  return {
    entries,
    readSmall: name => readSmallFile(storage, nativePath(root, entryPath(name)), readSmallBytesMax),
  }
}

function recordedStat(kind: FileStat['kind'], size: number): FileStat {
  const none = { mtimeNs: 0n, ctimeNs: 0n, inode: 0n, device: 0n, links: 1, mode: 0, uid: 0, gid: 0 }
  return { kind, size, allocatedBytes: size, ...none }
}

class Progress {
  bytes = 0
  #totalBytes = 0
  readonly #options: CheckOptions

  constructor(options: CheckOptions) {
    this.#options = options
  }

  expect(bytes: number): void {
    this.#totalBytes += bytes
  }

  add(bytes: number): void {
    this.bytes += bytes
    this.#options.onProgress({ bytes: this.bytes, totalBytes: this.#totalBytes })
  }
}

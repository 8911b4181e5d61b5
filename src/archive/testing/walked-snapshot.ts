/** A snapshot of any directory, straight from the file system: what archives are tested with. */
import { spawnSync } from 'node:child_process'
import * as fs from 'node:fs'
import { blake3 } from '@napi-rs/blake-hash'
import type {
  Snapshot,
  SnapshotBatch,
  SnapshotEntry,
  SnapshotExtent,
  SnapshotMetadata,
} from '../../drivers/snapshot.ts'
import { getXattr, listXattrs } from '../../os/attributes.ts'
import { closeFd, nextData, nextHole } from '../../os/tree-calls.ts'
import { type EntryPath, entryPath, nativePath, position } from '../../stream/entry.ts'

const blockBytes = 1024 * 1024

export class WalkedSnapshot implements Snapshot {
  readonly commit = { position: position('walked'), timeMs: 0 }
  readonly consistent = true
  readonly totalBytes = 0
  readonly totalEntries = 0
  readonly #root: string
  readonly #links = new Map<string, EntryPath>()
  released = 0

  constructor(root: string) {
    this.#root = root
  }

  async *batches(): AsyncGenerator<SnapshotBatch> {
    let entries: SnapshotEntry[] = []
    const batch = (): SnapshotBatch => {
      const given = entries
      entries = []
      return {
        entries: given,
        release: () => {
          this.released++
        },
      }
    }
    for (const entry of this.#walk('')) {
      entries.push(entry)
      if (entries.length === 100 || (entry.kind === 'file' && entry.stream !== undefined)) yield batch()
    }
    yield batch()
  }

  async close(): Promise<void> {}

  *#walk(path: string): Generator<SnapshotEntry> {
    const place = nativePath(this.#root, entryPath(path))
    const stat = fs.lstatSync(place, { bigint: true })
    const billion = 1_000_000_000n
    const nanoseconds = ((stat.mtimeNs % billion) + billion) % billion
    const names = listXattrs(place)
    const metadata: SnapshotMetadata = {
      path: entryPath(path),
      mode: Number(stat.mode) & 0o7777,
      uid: Number(stat.uid),
      gid: Number(stat.gid),
      mtimeSeconds: Number((stat.mtimeNs - nanoseconds) / billion),
      mtimeNanoseconds: Number(nanoseconds),
      xattrs:
        names.length === 0
          ? undefined
          : Object.fromEntries(names.map(name => [name, getXattr(place, name) as Buffer])),
    }
    if (stat.isDirectory()) {
      yield { ...metadata, kind: 'directory' }
      yield* this.#children(path, place)
    } else if (stat.isSymbolicLink()) {
      yield { ...metadata, kind: 'symlink', target: fs.readlinkSync(place, 'latin1') }
    } else if (stat.isFile()) {
      const id = `${stat.dev}:${stat.ino}`
      const first = this.#links.get(id)
      if (first !== undefined) yield { ...metadata, kind: 'hardlink', to: first }
      else {
        if (stat.nlink > 1n) this.#links.set(id, metadata.path)
        yield fileEntry(metadata, place, Number(stat.size))
      }
    }
  }

  *#children(path: string, place: string | Buffer): Generator<SnapshotEntry> {
    const names = fs
      .readdirSync(place, { withFileTypes: true, encoding: 'latin1' as BufferEncoding })
      .map(entry => (entry.isDirectory() ? `${entry.name}/` : entry.name))
      .sort((a, b) => (a < b ? -1 : 1))
    for (const name of names) {
      const plain = name.endsWith('/') ? name.slice(0, -1) : name
      yield* this.#walk(path === '' ? plain : `${path}/${plain}`)
    }
  }
}

function fileEntry(metadata: SnapshotMetadata, place: string | Buffer, size: number): SnapshotEntry {
  const whole = fs.readFileSync(place)
  const digests: Buffer[] = []
  for (let at = 0; at < size; at += blockBytes) digests.push(blake3(whole.subarray(at, at + blockBytes)))
  const extents = extentsOf(place, size)
  const content =
    extents === undefined
      ? whole
      : Buffer.concat(extents.map(({ offset, length }) => whole.subarray(offset, offset + length)))
  const isSmall = size <= blockBytes
  return {
    ...metadata,
    kind: 'file',
    size,
    digests: Buffer.concat(digests),
    extents,
    content: isSmall ? content : undefined,
    stream: isSmall
      ? undefined
      : async function* () {
          for (let at = 0; at < content.length; at += 700_000) yield content.subarray(at, at + 700_000)
        },
  }
}

function extentsOf(place: string | Buffer, size: number): SnapshotExtent[] | undefined {
  const fd = fs.openSync(place, 'r')
  try {
    const extents: SnapshotExtent[] = []
    for (let at = 0; at < size; ) {
      const offset = nextData(fd, at)
      if (offset === undefined || offset >= size) break
      const end = Math.min(nextHole(fd, offset) ?? size, size)
      extents.push({ offset, length: end - offset })
      at = end
    }
    const isWhole = extents.length === 1 && extents[0]?.offset === 0 && extents[0].length === size
    return isWhole || size === 0 ? undefined : extents
  } finally {
    closeFd(fd)
  }
}

/** Runs a program; throws with what it said when it fails or warns. */
export function runQuietly(program: string, ...args: string[]): string {
  const { status, stdout, stderr, error } = spawnSync(program, args, {
    encoding: 'utf8',
    maxBuffer: 1e9,
    env: { ...process.env, LC_ALL: 'C.UTF-8', TZ: 'UTC' },
  })
  if (error !== undefined) throw error
  if (status !== 0 || stderr !== '')
    throw new Error(`${program} ${args.join(' ')}: status ${status}\n${stdout}\n${stderr}`)
  return stdout
}

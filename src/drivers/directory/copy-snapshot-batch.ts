/**
 * A batch of a snapshot in one piece of shared memory: content, and the entries packed beside it, since an object that
 * is sent from thread to thread costs more than the file that it describes.
 *
 *     content | text: path, link, digest of each entry | 2 numbers of 8 bytes each | 10 of 4 bytes each
 *
 * What few entries have (extended attributes, holes, digests of many blocks) goes beside it, as objects.
 */
import { assert } from '../../os/errors.ts'
import type { EntryPath } from '../../stream/entry.ts'
import {
  batchBytesMax,
  batchEntriesMax,
  type SnapshotEntry,
  type SnapshotExtent,
  smallContentBytesMax,
} from '../snapshot.ts'
import { type AttributedNode, digestBytes } from './copy-node.ts'

export const contentBytesMax = batchBytesMax + smallContentBytesMax
const textBytesMax = 1024 * 1024
/** Of one entry: two paths, which the record bounds, and a digest. */
const entryTextBytesMax = 2 * 64 * 1024 + digestBytes
/** Size and time of an entry. */
const wideStart = contentBytesMax + textBytesMax
const wideCount = 2
const narrowStart = wideStart + batchEntriesMax * wideCount * 8
const narrowCount = 10
const memoryBytes = narrowStart + batchEntriesMax * narrowCount * 4

const kinds = ['directory', 'symlink', 'hardlink', 'file'] as const
export type BatchKind = (typeof kinds)[number]

/** What an entry has that most have not. */
export interface BatchExtra {
  /** Of the entry in its batch. */
  readonly index: number
  readonly xattrs?: Readonly<Record<string, Uint8Array>>
  readonly extents?: readonly SnapshotExtent[]
  /** Of a file of several blocks. */
  readonly digests?: Uint8Array
}

export interface BatchEntry {
  readonly kind: BatchKind
  readonly path: string
  readonly node: AttributedNode
  /** Of a symbolic link its target, of a hard link the first name. */
  readonly to?: string
  readonly extents?: readonly SnapshotExtent[] | undefined
  /** Of a small file: where its content is. */
  readonly start?: number
  readonly length?: number
  /** Of a large file: its number. */
  readonly large?: number
}

export class BatchMemory {
  readonly shared: SharedArrayBuffer
  readonly content: Buffer
  readonly #text: Buffer
  readonly #wide: Float64Array
  readonly #narrow: Int32Array
  readonly #extras: BatchExtra[] = []
  #count = 0
  #textUsed = 0

  constructor(shared = new SharedArrayBuffer(memoryBytes)) {
    this.shared = shared
    this.content = Buffer.from(shared, 0, contentBytesMax)
    this.#text = Buffer.from(shared, contentBytesMax, textBytesMax)
    this.#wide = new Float64Array(shared, wideStart, batchEntriesMax * wideCount)
    this.#narrow = new Int32Array(shared, narrowStart, batchEntriesMax * narrowCount)
  }

  // ---- writing

  get count(): number {
    return this.#count
  }

  get extras(): readonly BatchExtra[] {
    return this.#extras
  }

  get hasRoom(): boolean {
    return this.#count < batchEntriesMax && textBytesMax - this.#textUsed >= entryTextBytesMax
  }

  add({ kind, path, node, to = '', extents, start = 0, length = 0, large = 0 }: BatchEntry): void {
    assert(
      path.length + to.length + digestBytes <= entryTextBytesMax,
      'a path that the record does not allow',
    )
    const index = this.#count++
    const isFile = kind === 'file' && node.kind === 'file'
    const xattrs = node.xattrs.size === 0 ? undefined : Object.fromEntries(node.xattrs)
    const blocks = isFile ? node.blocks : 0
    if (xattrs !== undefined || extents !== undefined || blocks > 1) {
      this.#extras.push({
        index,
        ...(xattrs === undefined ? {} : { xattrs }),
        ...(extents === undefined ? {} : { extents }),
        ...(blocks > 1 && isFile ? { digests: node.digests.subarray(0, blocks * digestBytes) } : {}),
      })
    }
    const wide = index * wideCount
    this.#wide[wide] = node.mtimeSeconds
    this.#wide[wide + 1] = isFile ? node.size : 0
    const narrow = index * narrowCount
    const numbers = this.#narrow
    numbers[narrow] = kinds.indexOf(kind)
    numbers[narrow + 1] = node.mode
    numbers[narrow + 2] = node.uid
    numbers[narrow + 3] = node.gid
    numbers[narrow + 4] = node.mtimeNanoseconds
    numbers[narrow + 5] = path.length
    numbers[narrow + 6] = to.length
    numbers[narrow + 7] = start
    numbers[narrow + 8] = length
    numbers[narrow + 9] = large
    const text = this.#text
    let at = this.#textUsed
    at += text.write(path, at, 'latin1')
    if (to !== '') at += text.write(to, at, 'latin1')
    if (blocks === 1 && isFile) {
      text.set(node.digests.length === digestBytes ? node.digests : node.digest(0), at)
      at += digestBytes
    }
    this.#textUsed = at
  }

  // ---- reading

  /** `streamOf` gives the content of a large file. */
  entries(
    count: number,
    extras: readonly BatchExtra[],
    streamOf: (large: number) => AsyncIterable<Uint8Array>,
  ): SnapshotEntry[] {
    const entries: SnapshotEntry[] = []
    const numbers = this.#narrow
    const text = this.#text
    let nextExtra = 0
    let at = 0
    for (let index = 0; index < count; index++) {
      const extra = extras[nextExtra]?.index === index ? extras[nextExtra++] : undefined
      const narrow = index * narrowCount
      const kind = kinds[numbers[narrow] as number]
      const pathEnd = at + (numbers[narrow + 5] as number)
      const path = text.toString('latin1', at, pathEnd) as EntryPath
      at = pathEnd + (numbers[narrow + 6] as number)
      const to = at === pathEnd ? '' : text.toString('latin1', pathEnd, at)
      const mode = numbers[narrow + 1] as number
      const uid = (numbers[narrow + 2] as number) >>> 0
      const gid = (numbers[narrow + 3] as number) >>> 0
      const mtimeSeconds = this.#wide[index * wideCount] as number
      const mtimeNanoseconds = numbers[narrow + 4] as number
      const xattrs = extra?.xattrs
      switch (kind) {
        case 'directory':
          entries.push({ kind, path, mode, uid, gid, mtimeSeconds, mtimeNanoseconds, xattrs })
          break
        case 'symlink':
          entries.push({ kind, path, mode, uid, gid, mtimeSeconds, mtimeNanoseconds, xattrs, target: to })
          break
        case 'hardlink': {
          const first = to as EntryPath
          entries.push({ kind, path, mode, uid, gid, mtimeSeconds, mtimeNanoseconds, xattrs, to: first })
          break
        }
        default: {
          assert(kind === 'file', 'an entry of an unknown kind')
          const size = this.#wide[index * wideCount + 1] as number
          const digestStart = contentBytesMax + at
          if (extra?.digests === undefined && size > 0) at += digestBytes
          const digests = extra?.digests ?? Buffer.from(this.shared, digestStart, size > 0 ? digestBytes : 0)
          const large = numbers[narrow + 9] as number
          const start = numbers[narrow + 7] as number
          const length = numbers[narrow + 8] as number
          entries.push({
            kind,
            path,
            mode,
            uid,
            gid,
            mtimeSeconds,
            mtimeNanoseconds,
            xattrs,
            size,
            digests,
            extents: extra?.extents,
            content: large === 0 ? Buffer.from(this.shared, start, length) : undefined,
            stream: large === 0 ? undefined : () => streamOf(large),
          })
        }
      }
    }
    return entries
  }
}

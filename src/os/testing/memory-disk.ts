/**
 * A model of a disk with a cache before it: what was synced survives a crash, and of the rest the crash keeps what it
 * likes. Bytes are lost or kept by sectors; changes of names are lost or kept one by one or from some moment on, and a
 * rename is never half kept. An fsync that fails forgets what it should have written, as Linux does.
 */
import type { Random } from './random.ts'

export const sectorBytes = 512

interface Attributes {
  mode: number
  uid: number
  gid: number
  mtimeNs: bigint
  ctimeNs: bigint
}

const nothing = Buffer.alloc(0)

/** Bytes that grow by doubling, so that appending does not copy them each time. */
class Extent {
  #bytes: Buffer
  bytes: Buffer

  constructor(bytes: Buffer) {
    this.#bytes = this.bytes = bytes.length === 0 ? nothing : Buffer.from(bytes)
  }

  /** What it grows by is zeros. */
  resize(size: number): void {
    const before = this.bytes.length
    if (size > this.#bytes.length) {
      // from the pool when it is small: what it grows by is zeroed below, as far as it is used
      const grown = Buffer.allocUnsafe(Math.max(size, 2 * this.#bytes.length))
      this.bytes.copy(grown)
      grown.fill(0, before, size)
      this.#bytes = grown
    } else if (size > before) this.#bytes.fill(0, before, size)
    this.bytes = this.#bytes.subarray(0, size)
  }
}

export class Inode {
  readonly number: bigint
  readonly kind: 'file' | 'directory' | 'symlink'
  readonly attributes: Attributes
  readonly xattrs = new Map<string, Buffer>()
  readonly children = new Map<string, Inode>()
  linkTarget: Buffer = Buffer.alloc(0)
  links = 0
  readonly #data: Extent
  readonly #durable: Extent
  /** Sectors that differ from what the disk has, or may. */
  readonly dirty = new Set<number>()

  constructor(number: bigint, kind: Inode['kind'], attributes: Attributes, bytes: Buffer = nothing) {
    this.number = number
    this.kind = kind
    this.attributes = attributes
    this.#data = new Extent(bytes)
    this.#durable = new Extent(bytes)
  }

  /** As the cache has it; the next change may change these bytes. */
  get data(): Buffer {
    return this.#data.bytes
  }

  get durable(): Buffer {
    return this.#durable.bytes
  }

  write(bytes: Uint8Array, offset: number): void {
    if (bytes.length === 0) return
    if (offset + bytes.length > this.data.length) this.resize(offset + bytes.length)
    this.data.set(bytes, offset)
    this.#markDirty(offset, offset + bytes.length)
  }

  resize(size: number): void {
    const from = Math.min(size, this.data.length)
    this.#data.resize(size)
    this.#markDirty(from, Math.max(size, this.durable.length))
  }

  #markDirty(from: number, to: number): void {
    for (let sector = Math.floor(from / sectorBytes); sector * sectorBytes < to; sector++)
      this.dirty.add(sector)
  }

  sync(): void {
    const { data } = this
    this.#durable.resize(data.length)
    const { durable } = this
    for (const sector of this.dirty) {
      const from = sector * sectorBytes
      if (from < data.length) data.copy(durable, from, from, Math.min(from + sectorBytes, data.length))
    }
    this.dirty.clear()
  }

  /** The sectors of these bytes, and the file's size; others stay as they are. */
  syncRange(offset: number, end: number): void {
    const { data } = this
    this.#durable.resize(data.length)
    const { durable } = this
    for (let sector = Math.floor(offset / sectorBytes); sector * sectorBytes < end; sector++) {
      const from = sector * sectorBytes
      if (from < data.length) data.copy(durable, from, from, Math.min(from + sectorBytes, data.length))
      this.dirty.delete(sector)
    }
  }

  /** An fsync failed: its bytes count as written, and are not. */
  forget(offset: number, end: number): void {
    for (let sector = Math.floor(offset / sectorBytes); sector * sectorBytes < end; sector++)
      this.dirty.delete(sector)
  }

  /** What a crash leaves of the bytes. */
  torn(random: Random): Buffer {
    if (this.dirty.size === 0 && this.data.length === this.durable.length) return this.durable
    const fate = random.below(4)
    if (fate === 0) return this.durable
    if (fate === 1) return this.#mixed(this.data.length, sector => this.dirty.has(sector))
    const [least, most] = [this.data.length, this.durable.length].sort((a, b) => a - b) as [number, number]
    const size = random.pick([this.data.length, this.durable.length, least + random.below(most - least + 1)])
    return this.#mixed(size, sector => this.dirty.has(sector) && random.below(2) === 0)
  }

  #mixed(size: number, isNew: (sector: number) => boolean): Buffer {
    const mixed = Buffer.alloc(size)
    for (let sector = 0; sector * sectorBytes < size; sector++) {
      const from = sector * sectorBytes
      const bytes = isNew(sector) ? this.data : this.durable
      if (from < bytes.length) bytes.copy(mixed, from, from, Math.min(from + sectorBytes, size, bytes.length))
    }
    return mixed
  }
}

interface NameChange {
  readonly directory: Inode
  readonly name: string
  readonly inode: Inode | undefined
}

/** One change of names, whole or not at all. */
interface NameItem {
  readonly changes: readonly NameChange[]
  /** Directories that have not been synced since. */
  readonly unsynced: Set<Inode>
}

export class MemoryDisk {
  readonly root: Inode
  #lastInode = 1n
  #nowNs = 1_000_000_000n
  /** Names as they surely are on the disk, and the changes since. */
  #durable: Map<Inode, Map<string, Inode>>
  #items: NameItem[] = []
  /** Nothing can be done with it any more: it has crashed. */
  isDown = false

  constructor() {
    this.root = this.newInode('directory', 0o755)
    this.#durable = new Map([[this.root, new Map()]])
  }

  nowNs(): bigint {
    this.#nowNs += 1000n
    return this.#nowNs
  }

  newInode(kind: Inode['kind'], mode: number): Inode {
    const now = this.nowNs()
    return new Inode(this.#lastInode++, kind, { mode, uid: 0, gid: 0, mtimeNs: now, ctimeNs: now })
  }

  /** Changes names at once in the cache; on disk when all directories concerned have been synced. */
  change(changes: readonly NameChange[]): void {
    for (const { directory, name, inode } of changes) {
      const before = directory.children.get(name)
      if (before !== undefined) before.links--
      if (inode === undefined) directory.children.delete(name)
      else {
        inode.links++
        directory.children.set(name, inode)
      }
      directory.attributes.mtimeNs = directory.attributes.ctimeNs = this.nowNs()
    }
    this.#items.push({ changes, unsynced: new Set(changes.map(change => change.directory)) })
  }

  syncDirectory(directory: Inode): void {
    for (const item of this.#items) item.unsynced.delete(directory)
    while (this.#items[0]?.unsynced.size === 0) this.#keep(this.#durable, this.#items.shift() as NameItem)
  }

  #keep(names: Map<Inode, Map<string, Inode>>, item: NameItem): void {
    for (const { directory, name, inode } of item.changes) {
      const children = names.get(directory) ?? new Map<string, Inode>()
      names.set(directory, children)
      if (inode === undefined) children.delete(name)
      else children.set(name, inode)
    }
  }

  /** The power fails: gives the disk as it is found afterwards. This one is of no use any more. */
  crash(random: Random): MemoryDisk {
    this.isDown = true
    return this.afterCrash(random)
  }

  /** As it would be found if the power failed now. */
  afterCrash(random: Random): MemoryDisk {
    const names = new Map([...this.#durable].map(([inode, children]) => [inode, new Map(children)]))
    const fate = random.below(4)
    const cut = random.below(this.#items.length + 1)
    this.#items.forEach((item, i) => {
      const lucky = fate === 0 ? false : fate === 1 ? true : fate === 2 ? i < cut : random.below(2) === 0
      if (item.unsynced.size === 0 || lucky) this.#keep(names, item)
    })
    const after = new MemoryDisk()
    after.#nowNs = this.#nowNs + 1_000_000_000n
    after.#lastInode = this.#lastInode
    after.#durable = new Map()
    const survivors = new Map<Inode, Inode>()
    after.#restore(this.root, after.root, names, survivors, random)
    return after
  }

  #restore(
    from: Inode,
    to: Inode,
    names: Map<Inode, Map<string, Inode>>,
    survivors: Map<Inode, Inode>,
    random: Random,
  ): void {
    for (const [name, child] of names.get(from) ?? []) {
      let survivor = survivors.get(child)
      if (survivor === undefined) {
        const bytes = child.torn(random)
        survivor = new Inode(child.number, child.kind, { ...child.attributes }, bytes)
        survivors.set(child, survivor)
        survivor.linkTarget = child.linkTarget
        for (const [key, value] of child.xattrs) survivor.xattrs.set(key, value)
        this.#restoreInto(survivor, child, names, survivors, random)
      }
      survivor.links++
      to.children.set(name, survivor)
    }
    this.#durable.set(to, new Map(to.children))
  }

  #restoreInto(
    survivor: Inode,
    child: Inode,
    names: Map<Inode, Map<string, Inode>>,
    survivors: Map<Inode, Inode>,
    random: Random,
  ): void {
    if (child.kind === 'directory') this.#restore(child, survivor, names, survivors, random)
  }
}

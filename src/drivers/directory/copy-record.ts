/**
 * What a copy consists of on disk: every name with its metadata, digests and mark, kept packed and read by directory
 * when it is asked for, so that a large copy is opened at the cost of its bytes and not of its files.
 *
 * A change is noted here in memory; `writeChanges` gives what has to be appended to the log (copy-log.ts) since it was
 * called last, and `load` takes it back, one section after another.
 */
import { assert, HotspareError } from '../../os/errors.ts'
import { ByteReader, ByteWriter } from '../../stream/bytes.ts'
import { type CopyNode, type DirectoryNode, type FileNode, readNode, writeNode } from './copy-node.ts'
import { joinPath, nameOf, parentOf } from './copy-paths.ts'

interface Directory {
  /** As they were written, to be laid over one another. */
  sections: Buffer[]
  children: Map<string, CopyNode> | undefined
  /** Names that changed since they were written. */
  changed: Set<string> | undefined
}

export interface LinkGroup {
  readonly id: number
  readonly node: FileNode
  readonly paths: Set<string>
}

/** Of a section of the log that is the record's. */
export const recordSection = { root: 1, directory: 2, directoryGone: 3, group: 4, groupGone: 5 } as const

const entryByte = { gone: 0, node: 1, linked: 2 } as const
const unpackedEntriesMax = 300_000
/** With more than this, new directories are packed as soon as they are written: a first copy need not hold its files. */
const newUnpackedMax = 10_000
const entryBytesExpected = 128
const noNames: ReadonlySet<string> = new Set()
const pathBytesMax = 64 * 1024

export class CopyRecord {
  #root: DirectoryNode | undefined
  readonly #directories = new Map<string, Directory>()
  readonly #groups = new Map<number, LinkGroup>()
  #lastGroup = 0
  #unpacked = 0
  #rootChanged = false
  readonly #changed = new Set<string>()
  readonly #goneDirectories = new Set<string>()
  readonly #changedGroups = new Set<number>()

  get root(): DirectoryNode | undefined {
    return this.#root
  }

  set root(node: DirectoryNode | undefined) {
    this.#root = node
    this.#rootChanged = true
    if (node !== undefined && !this.#directories.has('')) {
      this.#makeDirectory('')
      this.#changed.add('')
    }
  }

  find(path: string): CopyNode | undefined {
    if (path === '') return this.#root
    return this.children(parentOf(path))?.get(nameOf(path))
  }

  /** Of a directory, by name; undefined when there is no such directory. Not to be changed. */
  children(path: string): ReadonlyMap<string, CopyNode> | undefined {
    const directory = this.#directories.get(path)
    return directory === undefined ? undefined : this.#unpack(directory)
  }

  /** As `children`; what it unpacks is not kept, for a reading that comes by once. */
  childrenOnce(path: string): ReadonlyMap<string, CopyNode> | undefined {
    const directory = this.#directories.get(path)
    return directory === undefined ? undefined : (directory.children ?? this.#read(directory.sections))
  }

  hasDirectory(path: string): boolean {
    return this.#directories.has(path)
  }

  get directories(): Iterable<string> {
    return this.#directories.keys()
  }

  /** All names of a file; undefined when it has one. */
  namesOf(node: FileNode): ReadonlySet<string> | undefined {
    return node.group === 0 ? undefined : this.#groups.get(node.group)?.paths
  }

  /** Gives a name, in place of what had it; a directory that had it must be empty of names, or be one still. */
  put(path: string, node: CopyNode): void {
    if (path === '') {
      assert(node.kind === 'directory', 'the root of a copy is a directory')
      this.root = node
      return
    }
    const parent = this.#directories.get(parentOf(path))
    assert(parent !== undefined, `'${path}' has no directory in the record`)
    const children = this.#unpack(parent)
    const name = nameOf(path)
    const before = children.get(name)
    if (before !== undefined && before !== node) this.#letGo(path, before, node.kind)
    if (before === undefined) this.#unpacked++
    children.set(name, node)
    this.#note(parentOf(path), parent, name)
    if (node.kind === 'directory' && !this.#directories.has(path)) {
      this.#makeDirectory(path)
      // an empty one has to be written too
      this.#changed.add(path)
    }
    if (node.kind === 'file' && node.group !== 0) this.#changedGroups.add(node.group)
  }

  /** A further name of a file that has one already. */
  link(path: string, node: FileNode, firstPath: string): void {
    if (node.group === 0) {
      node.group = ++this.#lastGroup
      this.#groups.set(node.group, { id: node.group, node, paths: new Set([firstPath]) })
      this.#noteName(firstPath)
    }
    this.#groups.get(node.group)?.paths.add(path)
    this.put(path, node)
  }

  /** What is known of a name or of its file is not as it was. */
  touch(path: string): void {
    const node = this.find(path)
    if (node?.kind === 'file' && node.group !== 0) this.#changedGroups.add(node.group)
    else if (path === '') this.#rootChanged = true
    else this.#noteName(path)
  }

  /** With all that it holds. */
  remove(path: string): void {
    const parent = this.#directories.get(parentOf(path))
    if (path === '' || parent === undefined) return
    const children = this.#unpack(parent)
    const node = children.get(nameOf(path))
    if (node === undefined) return
    this.#letGo(path, node, undefined)
    this.#unpacked--
    children.delete(nameOf(path))
    this.#note(parentOf(path), parent, nameOf(path))
  }

  #letGo(path: string, node: CopyNode, becomes: CopyNode['kind'] | undefined): void {
    if (node.kind === 'directory' && becomes !== 'directory') this.#dropDirectory(path)
    if (node.kind !== 'file' || node.group === 0) return
    const group = this.#groups.get(node.group)
    if (group === undefined) return
    group.paths.delete(path)
    this.#changedGroups.add(group.id)
    if (group.paths.size > 1) return
    this.#groups.delete(group.id)
    node.group = 0
    for (const last of group.paths) this.#noteName(last)
  }

  #dropDirectory(path: string): void {
    const directory = this.#directories.get(path)
    if (directory === undefined) return
    for (const [name, node] of this.#unpack(directory)) this.#letGo(joinPath(path, name), node, undefined)
    this.#unpacked -= directory.children?.size ?? 0
    this.#directories.delete(path)
    this.#changed.delete(path)
    this.#goneDirectories.add(path)
  }

  #makeDirectory(path: string): void {
    this.#directories.set(path, { sections: [], children: new Map(), changed: undefined })
  }

  #noteName(path: string): void {
    const parent = this.#directories.get(parentOf(path))
    if (parent !== undefined) this.#note(parentOf(path), parent, nameOf(path))
  }

  #note(path: string, directory: Directory, name: string): void {
    directory.changed ??= new Set()
    directory.changed.add(name)
    this.#changed.add(path)
  }

  #unpack(directory: Directory): Map<string, CopyNode> {
    if (directory.children !== undefined) return directory.children
    const children = this.#read(directory.sections)
    directory.children = children
    directory.sections = []
    this.#unpacked += children.size
    return children
  }

  #read(sections: readonly Buffer[]): Map<string, CopyNode> {
    const children = new Map<string, CopyNode>()
    for (const section of sections) {
      const reader = new ByteReader(section)
      while (reader.remaining > 0) {
        const name = reader.latin1('a name', 255)
        switch (reader.u8('the kind of an entry')) {
          case entryByte.gone:
            children.delete(name)
            break
          case entryByte.node:
            children.set(name, readNode(reader))
            break
          case entryByte.linked: {
            const group = this.#groups.get(reader.integer('a group'))
            // the name was given up later, as a later section says
            if (group === undefined) children.delete(name)
            else children.set(name, group.node)
            break
          }
          default:
            throw new HotspareError('entry-invalid', 'an unknown kind of entry')
        }
      }
    }
    return children
  }

  /** Lets memory go when much was unpacked; only when all that changed was written. */
  pack(): void {
    if (this.#unpacked < unpackedEntriesMax) return
    for (const directory of this.#directories.values()) {
      if (directory.children === undefined) continue
      const writer = new ByteWriter(64 * directory.children.size + 64)
      for (const [name, node] of directory.children) writeEntry(writer, name, node)
      directory.sections = [Buffer.from(writer.finish())]
      directory.children = undefined
    }
    this.#unpacked = 0
  }

  // ---- bytes

  /** What changed since it was written last. */
  writeChanges(sections: SectionWriter): void {
    this.#writeRoot(sections, this.#rootChanged)
    for (const path of this.#goneDirectories) {
      if (!this.#directories.has(path) || this.#changed.has(path))
        sections.add(recordSection.directoryGone, writer => writer.latin1(path))
    }
    for (const id of this.#changedGroups) this.#writeGroup(sections, id)
    for (const path of this.#changed) {
      const directory = this.#directories.get(path)
      if (directory === undefined) continue
      const children = this.#unpack(directory)
      const changed = directory.changed ?? noNames
      let start = 0
      const section = sections.add(
        recordSection.directory,
        writer => {
          start = writer.latin1(path).length
          for (const name of changed) writeEntry(writer, name, children.get(name))
        },
        path.length + changed.size * entryBytesExpected,
      )
      directory.changed = undefined
      // of a directory that is new, the section is all there is
      if (changed.size < children.size || this.#unpacked < newUnpackedMax) continue
      directory.sections = [Buffer.from(section.subarray(start))]
      directory.children = undefined
      this.#unpacked -= children.size
    }
    this.#rootChanged = false
    this.#goneDirectories.clear()
    this.#changedGroups.clear()
    this.#changed.clear()
  }

  /** All there is; what changed must have been written. */
  writeAll(sections: SectionWriter): void {
    this.#writeRoot(sections, this.#root !== undefined)
    for (const id of this.#groups.keys()) this.#writeGroup(sections, id)
    for (const [path, directory] of this.#directories) {
      sections.add(recordSection.directory, writer => {
        writer.latin1(path)
        if (directory.children === undefined) for (const section of directory.sections) writer.raw(section)
        else for (const [name, node] of directory.children) writeEntry(writer, name, node)
      })
    }
  }

  #writeRoot(sections: SectionWriter, changed: boolean): void {
    const root = this.#root
    if (changed && root !== undefined) sections.add(recordSection.root, writer => writeNode(writer, root))
  }

  #writeGroup(sections: SectionWriter, id: number): void {
    const group = this.#groups.get(id)
    if (group === undefined) {
      sections.add(recordSection.groupGone, writer => writer.integer(id))
      return
    }
    sections.add(recordSection.group, writer => {
      writer.integer(id).integer(group.paths.size)
      for (const path of group.paths) writer.latin1(path)
      writeNode(writer, group.node)
    })
  }

  /** Takes a section that was written; false when it is not the record's. */
  load(type: number, body: Buffer): boolean {
    const reader = new ByteReader(body)
    switch (type) {
      case recordSection.root: {
        const node = readNode(reader)
        if (node.kind !== 'directory') throw new HotspareError('entry-invalid', 'the root is no directory')
        this.#root = node
        if (!this.#directories.has('')) this.#makeDirectory('')
        return true
      }
      case recordSection.directory: {
        const path = reader.latin1('a path', pathBytesMax)
        const section = reader.raw('entries', reader.remaining)
        const directory = this.#directories.get(path)
        if (directory === undefined)
          this.#directories.set(path, { sections: [section], children: undefined, changed: undefined })
        else if (directory.children === undefined || directory.children.size === 0) {
          directory.children = undefined
          directory.sections.push(section)
        } else throw new HotspareError('entry-invalid', 'a directory was read before all of it was loaded')
        return true
      }
      case recordSection.directoryGone:
        this.#directories.delete(reader.latin1('a path', pathBytesMax))
        return true
      case recordSection.group: {
        const id = reader.integer('a group')
        const paths = new Set<string>()
        const count = reader.integer('the number of names')
        for (let i = 0; i < count; i++) paths.add(reader.latin1('a path', pathBytesMax))
        const node = readNode(reader)
        if (node.kind !== 'file') throw new HotspareError('entry-invalid', 'a linked file is no file')
        node.group = id
        this.#groups.set(id, { id, node, paths })
        this.#lastGroup = Math.max(this.#lastGroup, id)
        return true
      }
      case recordSection.groupGone:
        this.#groups.delete(reader.integer('a group'))
        return true
      default:
        return false
    }
  }

  get groups(): Iterable<LinkGroup> {
    return this.#groups.values()
  }

  /** All names but the root's, in the order of their paths' bytes. */
  *walk(path = ''): Generator<readonly [path: string, node: CopyNode]> {
    const children = this.children(path)
    if (children === undefined) return
    for (const [name, node, inside] of inPathOrder(children)) {
      const at = joinPath(path, name)
      if (inside) yield* this.walk(at)
      else yield [at, node]
    }
  }
}

/**
 * The children of a directory so that whole paths come in the order of their bytes: a directory once for itself, and
 * once for what is inside it, which is ordered as if '/' were part of its name.
 */
export function inPathOrder<T extends { readonly kind: string }>(
  children: Iterable<readonly [string, T]>,
): (readonly [name: string, node: T, inside: boolean])[] {
  const keyed: [key: string, name: string, node: T, inside: boolean][] = []
  for (const [name, node] of children) {
    keyed.push([name, name, node, false])
    if (node.kind === 'directory') keyed.push([`${name}/`, name, node, true])
  }
  keyed.sort((a, b) => (a[0] < b[0] ? -1 : a[0] > b[0] ? 1 : 0))
  return keyed.map(([, name, node, inside]) => [name, node, inside] as const)
}

function writeEntry(writer: ByteWriter, name: string, node: CopyNode | undefined): void {
  writer.latin1(name)
  if (node === undefined) writer.u8(entryByte.gone)
  else if (node.kind === 'file' && node.group !== 0) writer.u8(entryByte.linked).integer(node.group)
  else {
    writer.u8(entryByte.node)
    writeNode(writer, node)
  }
}

/** Sections of a group of the log: a byte for the type, 6 bytes length, the body. */
export class SectionWriter {
  readonly #parts: Buffer[] = []
  length = 0

  /** Gives the section as it is written, which is not to be changed. */
  add(type: number, write: (writer: ByteWriter) => unknown, bytesExpected = 256): Buffer {
    const writer = new ByteWriter(bytesExpected)
    writer.raw(new Uint8Array(7))
    write(writer)
    const section = writer.finish()
    section[0] = type
    section.writeUIntLE(section.length - 7, 1, 6)
    this.#parts.push(section)
    this.length += section.length
    return section
  }

  get parts(): readonly Buffer[] {
    return this.#parts
  }
}

export function* readSections(bytes: Buffer): Generator<{ readonly type: number; readonly body: Buffer }> {
  for (let at = 0; at < bytes.length; ) {
    if (at + 7 > bytes.length) throw new HotspareError('entry-invalid', 'a section is cut off')
    const end = at + 7 + bytes.readUIntLE(at + 1, 6)
    if (end > bytes.length) throw new HotspareError('entry-invalid', 'a section is cut off')
    yield { type: bytes[at] as number, body: bytes.subarray(at + 7, end) }
    at = end
  }
}

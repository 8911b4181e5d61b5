/**
 * What is not shown yet: for each path that is to change, what it is to be. Later changes of a path take the place of
 * earlier ones, so that this and the staged content are bounded by one version each.
 *
 * A path that is not here is as in the record, unless a directory above it is gone or something else here.
 */
import { HotspareError } from '../../os/errors.ts'
import { ByteReader, type ByteWriter } from '../../stream/bytes.ts'
import { DirectoryNode, FileNode, readNode, SymlinkNode, writeNode } from './copy-node.ts'
import { joinPath, nameOf, parentOf } from './copy-paths.ts'
import type { SectionWriter } from './copy-record.ts'

/** Bytes that stand at the same offset in a staged file. */
export interface Piece {
  readonly offset: number
  readonly length: number
  readonly stage: number
}

/** A file as it is to be: some content that it begins with, and pieces that lie over it. */
export class PendingFile {
  readonly id: number
  node: FileNode
  readonly names = new Set<string>()
  /** The content is this staged file; 0: it is the file that the copy has at `home`. */
  stage = 0
  home = ''
  /** Bytes of that content, and how many of them still count: zeros follow. */
  baseSize = 0
  valid = 0
  /** In ascending order, apart from each other. */
  pieces: Piece[] = []
  /** The staged file has the metadata already. */
  attributed = false
  /** Of the transaction in which `stage` was made, so that it may still be changed in place; 0: it may not. */
  stageEpoch = 0
  patchStage = 0
  patchEpoch = 0

  constructor(id: number, node: FileNode) {
    this.id = id
    this.node = node
  }

  get stages(): Set<number> {
    const stages = new Set(this.pieces.map(piece => piece.stage))
    if (this.stage !== 0) stages.add(this.stage)
    return stages
  }

  /** Lays bytes over what is there, or takes them away with `stage` 0. */
  overlay(offset: number, length: number, stage: number): void {
    const end = offset + length
    const pieces: Piece[] = []
    for (const piece of this.pieces) {
      const pieceEnd = piece.offset + piece.length
      if (pieceEnd <= offset || piece.offset >= end) {
        pieces.push(piece)
        continue
      }
      if (piece.offset < offset) pieces.push({ ...piece, length: offset - piece.offset })
      if (pieceEnd > end) pieces.push({ offset: end, length: pieceEnd - end, stage: piece.stage })
    }
    if (stage !== 0 && length > 0) pieces.push({ offset, length, stage })
    pieces.sort((a, b) => a.offset - b.offset)
    this.pieces = pieces
  }
}

export type PendingEntry =
  | { readonly kind: 'gone' }
  | { readonly kind: 'node'; readonly node: DirectoryNode | SymlinkNode }
  | { readonly kind: 'file'; readonly file: PendingFile }

export const gone: PendingEntry = { kind: 'gone' }

export const pendingSection = { entry: 16, entryDropped: 17, file: 18, fileDropped: 19, none: 20 } as const
const entryByte = { gone: 0, node: 1, file: 2 } as const
const pathBytesMax = 64 * 1024

export class PendingChanges {
  readonly #entries = new Map<string, Map<string, PendingEntry>>()
  /** Names of directories below which there are entries, by the directory that they are in. */
  readonly #passages = new Map<string, Set<string>>()
  readonly #files = new Map<number, PendingFile>()
  #lastFile = 0
  #count = 0
  readonly #changed = new Set<string>()
  readonly #changedFiles = new Set<number>()
  /** Staged files that nothing here speaks of any more: to be removed when that is durable. */
  readonly garbage = new Set<number>()

  get isEmpty(): boolean {
    return this.#count === 0
  }

  get(path: string): PendingEntry | undefined {
    return this.#count === 0 ? undefined : this.#entries.get(parentOf(path))?.get(nameOf(path))
  }

  /** What is here of the children of a directory. */
  below(path: string): ReadonlyMap<string, PendingEntry> | undefined {
    return this.#entries.get(path)
  }

  get files(): Iterable<PendingFile> {
    return this.#files.values()
  }

  get changedFiles(): PendingFile[] {
    return [...this.#changedFiles].flatMap(id => this.#files.get(id) ?? [])
  }

  newFile(node: FileNode): PendingFile {
    const file = new PendingFile(++this.#lastFile, node)
    this.#files.set(file.id, file)
    this.#changedFiles.add(file.id)
    return file
  }

  fileChanged(file: PendingFile): void {
    this.#changedFiles.add(file.id)
  }

  set(path: string, entry: PendingEntry): void {
    const entries = this.#entriesOf(parentOf(path))
    const before = entries.get(nameOf(path))
    if (before === undefined) this.#count++
    entries.set(nameOf(path), entry)
    this.#changed.add(path)
    if (entry.kind === 'file') entry.file.names.add(path)
    if (before?.kind === 'file' && !(entry.kind === 'file' && entry.file === before.file))
      this.#nameLost(path, before.file)
  }

  delete(path: string): void {
    const entries = this.#entries.get(parentOf(path))
    const before = entries?.get(nameOf(path))
    if (entries === undefined || before === undefined) return
    entries.delete(nameOf(path))
    if (entries.size === 0) this.#entries.delete(parentOf(path))
    this.#count--
    this.#changed.add(path)
    if (before.kind === 'file') this.#nameLost(path, before.file)
  }

  /** All that is here below a path, without the path itself. */
  deleteBelow(path: string): void {
    // what is pending of the root itself stays
    for (const name of [...(this.#entries.get(path)?.keys() ?? [])])
      if (name !== '') this.delete(joinPath(path, name))
    const passages = this.#passages.get(path)
    if (passages === undefined) return
    this.#passages.delete(path)
    for (const name of passages) this.deleteBelow(joinPath(path, name))
  }

  /** The entries of a directory, made when there are none, with the way to it from the root. */
  #entriesOf(parent: string): Map<string, PendingEntry> {
    const before = this.#entries.get(parent)
    if (before !== undefined) return before
    const entries = new Map<string, PendingEntry>()
    this.#entries.set(parent, entries)
    for (let at = parent; at !== ''; at = parentOf(at)) {
      const names = this.#passages.get(parentOf(at))
      if (names?.has(nameOf(at))) break
      if (names === undefined) this.#passages.set(parentOf(at), new Set([nameOf(at)]))
      else names.add(nameOf(at))
    }
    return entries
  }

  #nameLost(path: string, file: PendingFile): void {
    file.names.delete(path)
    if (file.names.size === 0) this.drop(file)
  }

  /** A file that has no name. */
  drop(file: PendingFile): void {
    this.#discard(file)
    this.#files.delete(file.id)
    this.#changedFiles.add(file.id)
  }

  #discard(file: PendingFile): void {
    for (const stage of file.stages) this.garbage.add(stage)
    if (file.patchStage !== 0) this.garbage.add(file.patchStage)
  }

  /** Staged files that are spoken of. */
  get stages(): Set<number> {
    const stages = new Set<number>()
    for (const file of this.#files.values()) for (const stage of file.stages) stages.add(stage)
    return stages
  }

  *walk(): Generator<readonly [path: string, entry: PendingEntry]> {
    for (const [parent, entries] of this.#entries)
      for (const [name, entry] of entries) yield [joinPath(parent, name), entry]
  }

  /** All of it was shown. */
  clear(): void {
    for (const file of this.#files.values()) this.#discard(file)
    this.#entries.clear()
    this.#passages.clear()
    this.#files.clear()
    this.#changed.clear()
    this.#changedFiles.clear()
    this.#count = 0
  }

  // ---- bytes

  writeChanges(sections: SectionWriter): void {
    for (const id of this.#changedFiles) {
      const file = this.#files.get(id)
      if (file === undefined) sections.add(pendingSection.fileDropped, writer => writer.integer(id))
      else sections.add(pendingSection.file, writer => writeFile(writer, file))
    }
    for (const path of this.#changed) this.#writeEntry(sections, path)
    this.#changed.clear()
    this.#changedFiles.clear()
  }

  writeAll(sections: SectionWriter): void {
    for (const file of this.#files.values())
      sections.add(pendingSection.file, writer => writeFile(writer, file))
    for (const [path] of this.walk()) this.#writeEntry(sections, path)
  }

  #writeEntry(sections: SectionWriter, path: string): void {
    const entry = this.get(path)
    if (entry === undefined) {
      sections.add(pendingSection.entryDropped, writer => writer.latin1(path))
      return
    }
    sections.add(pendingSection.entry, writer => {
      writer.latin1(path).u8(entryByte[entry.kind])
      if (entry.kind === 'node') writeNode(writer, entry.node)
      if (entry.kind === 'file') writer.integer(entry.file.id)
    })
  }

  /** Takes a section that was written; false when it is none of these. */
  load(type: number, body: Buffer): boolean {
    const reader = new ByteReader(body)
    switch (type) {
      case pendingSection.entry:
        this.#loadEntry(reader)
        return true
      case pendingSection.entryDropped: {
        const path = reader.latin1('a path', pathBytesMax)
        const entries = this.#entries.get(parentOf(path))
        if (entries?.delete(nameOf(path))) this.#count--
        return true
      }
      case pendingSection.file: {
        const file = readFile(reader)
        this.#files.set(file.id, file)
        this.#lastFile = Math.max(this.#lastFile, file.id)
        return true
      }
      case pendingSection.fileDropped:
        this.#files.delete(reader.integer('a file'))
        return true
      case pendingSection.none:
        this.#entries.clear()
        this.#passages.clear()
        this.#files.clear()
        this.#count = 0
        return true
      default:
        return false
    }
  }

  #loadEntry(reader: ByteReader): void {
    const path = reader.latin1('a path', pathBytesMax)
    const kind = reader.u8('the kind of an entry')
    const entries = this.#entriesOf(parentOf(path))
    if (!entries.has(nameOf(path))) this.#count++
    if (kind === entryByte.gone) entries.set(nameOf(path), gone)
    else if (kind === entryByte.node) {
      const node = readNode(reader)
      if (!(node instanceof DirectoryNode) && !(node instanceof SymlinkNode))
        throw new HotspareError('entry-invalid', 'a pending node of a wrong kind')
      entries.set(nameOf(path), { kind: 'node', node })
    } else {
      const file = new PendingFile(reader.integer('a file'), new FileNode())
      entries.set(nameOf(path), { kind: 'file', file })
    }
  }

  /** After the last section: entries get the files that they name. */
  loaded(): void {
    for (const [parent, entries] of this.#entries) {
      for (const [name, entry] of entries) {
        if (entry.kind !== 'file') continue
        const file = this.#files.get(entry.file.id)
        if (file === undefined) throw new HotspareError('entry-invalid', 'a pending file is missing')
        entries.set(name, { kind: 'file', file })
        file.names.add(joinPath(parent, name))
      }
    }
  }
}

function writeFile(writer: ByteWriter, file: PendingFile): void {
  writer.integer(file.id).integer(file.stage).latin1(file.home).integer(file.baseSize).integer(file.valid)
  writer.u8(file.attributed ? 1 : 0).integer(file.pieces.length)
  for (const { offset, length, stage } of file.pieces) writer.integer(offset).integer(length).integer(stage)
  writeNode(writer, file.node)
}

function readFile(reader: ByteReader): PendingFile {
  const id = reader.integer('a file')
  const stage = reader.integer('a staged file')
  const home = reader.latin1('a path', pathBytesMax)
  const baseSize = reader.integer('a size')
  const valid = reader.integer('a size')
  const attributed = reader.u8('flags') === 1
  const pieces: Piece[] = []
  const count = reader.integer('the number of pieces')
  for (let i = 0; i < count; i++) {
    const offset = reader.integer('an offset')
    pieces.push({
      offset,
      length: reader.integer('a length'),
      stage: reader.integer('a staged file'),
    })
  }
  const node = readNode(reader)
  if (node.kind !== 'file') throw new HotspareError('entry-invalid', 'a pending file is none')
  const file = new PendingFile(id, node)
  file.stage = stage
  file.home = home
  file.baseSize = baseSize
  file.valid = valid
  file.attributed = attributed
  file.pieces = pieces
  return file
}

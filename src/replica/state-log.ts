/**
 * The log of a copy's state: what the copy consists of, and up to which commit.
 *
 * Invariant: a group is appended, and made durable, only when what it tells of the files' content is durable, and
 * before the names that it announces (`intent`) are changed. So the state never runs ahead of the content, and a
 * crash leaves at most the last group torn, which then counts as not written. When the log has grown to several times
 * the size of what it says, it is written anew under another name and takes its own by a rename.
 *
 * Worst outcome of a crash: some bytes and one change of names beyond what is recorded; see copy-opening.ts.
 */
import { HotspareError, isSystemError, unreachable } from '../os/errors.ts'
import { parentDirectory, type Storage, type StorageFile } from '../os/storage.ts'
import { type FramesEnd, readFrame, readFrames } from '../stream/frame.ts'
import { type CopyFile, CopyTree, type NameOp } from './copy-tree.ts'
import {
  decodeGroupFrame,
  encodeGroup,
  fileDeltas,
  type JournalProgress,
  type RecordedCommit,
  type StateRecord,
} from './state-record.ts'

/** The log may grow to this, and to so many times its size when it was last written anew. */
const logBytesMin = 4 * 1024 * 1024
const growthMax = 4
const readAttemptsMax = 3
const copyBytes = 1024 * 1024

/** All that the log says. */
export interface CopyState {
  tree: CopyTree
  commit: RecordedCommit | undefined
  consistent: RecordedCommit | undefined
  /** The journal of this generation, and those before it, are done with. */
  appliedGeneration: number
  applying: JournalProgress | undefined
  /** Changes of names announced in the last group: done, or not. */
  intents: NameOp[]
  /** Changes of names that were recorded after the last commit, without those that only added one. */
  ahead: NameOp[]
  /** Files whose content was recorded in the last group: written up to the end. */
  hot: Set<CopyFile>
  closed: boolean
}

export function emptyState(blockBytes: number): CopyState {
  return {
    tree: new CopyTree(blockBytes),
    commit: undefined,
    consistent: undefined,
    appliedGeneration: 0,
    applying: undefined,
    intents: [],
    ahead: [],
    hot: new Set(),
    closed: false,
  }
}

interface LoadedLog {
  readonly state: CopyState
  /** Where the last group begins and ends. */
  readonly lastBegin: number
  readonly end: number
  readonly groups: number
  readonly snapshotBytes: number
}

/** Reads the state, also while a follower appends to it; undefined when there is none. */
export async function readState(storage: Storage, path: string): Promise<CopyState | undefined> {
  let file: StorageFile
  try {
    file = await storage.open(path, 'read')
  } catch (error) {
    if (isSystemError(error, 'ENOENT')) return undefined
    throw error
  }
  try {
    for (let attempt = 1; ; attempt++) {
      try {
        return (await loadNamed(file, path)).state
      } catch (error) {
        // a group that is just being written can look damaged from outside, once
        const damaged = error instanceof HotspareError && error.code === 'state-damaged'
        if (!damaged || attempt === readAttemptsMax) throw error
      }
    }
  } finally {
    await file.close()
  }
}

export class StateLog {
  readonly #storage: Storage
  readonly #path: string
  #file: StorageFile
  #end: number
  #groups: number
  #snapshotBytes: number

  private constructor(
    storage: Storage,
    path: string,
    file: StorageFile,
    loaded: Omit<LoadedLog, 'state' | 'lastBegin'>,
  ) {
    this.#storage = storage
    this.#path = path
    this.#file = file
    this.#end = loaded.end
    this.#groups = loaded.groups
    this.#snapshotBytes = loaded.snapshotBytes
  }

  /** Undefined when there is no log. A torn last group is cut off. */
  static async open(
    storage: Storage,
    path: string,
  ): Promise<{ log: StateLog; state: CopyState } | undefined> {
    let file: StorageFile
    try {
      file = await storage.open(path, 'write')
    } catch (error) {
      if (isSystemError(error, 'ENOENT')) return undefined
      throw error
    }
    try {
      const loaded = await loadNamed(file, path)
      if ((await file.stat()).size > loaded.end) await file.truncate(loaded.end)
      await writeAgain(file, loaded.lastBegin, loaded.end)
      return { log: new StateLog(storage, path, file, loaded), state: loaded.state }
    } catch (error) {
      await file.close()
      throw error
    }
  }

  /** Begins a log that says just this, in place of any there was. */
  static async create(storage: Storage, path: string, state: CopyState): Promise<StateLog> {
    const { file, bytes } = await writeSnapshot(storage, path, state)
    return new StateLog(storage, path, file, { end: bytes, groups: 1, snapshotBytes: bytes })
  }

  /** Resolves when the group is durable. */
  async append(records: Iterable<StateRecord>): Promise<void> {
    let end = this.#end
    for (const frame of encodeGroup(this.#groups + 1, records)) {
      await this.#file.write(frame, end)
      end += frame.length
    }
    await this.#file.sync()
    this.#end = end
    this.#groups++
  }

  get isLarge(): boolean {
    return this.#end > Math.max(logBytesMin, this.#snapshotBytes * growthMax)
  }

  /** Writes the log anew; the state has to be the one that is recorded. */
  async rewrite(state: CopyState): Promise<void> {
    const { file, bytes } = await writeSnapshot(this.#storage, this.#path, state)
    await this.#file.close()
    this.#file = file
    this.#end = bytes
    this.#groups = 1
    this.#snapshotBytes = bytes
  }

  close(): Promise<void> {
    return this.#file.close()
  }
}

/**
 * Makes durable what may have been left unsynced, before anything is built on it. A sync alone would not do: after one
 * that failed the bytes can be read and yet count as written.
 */
async function writeAgain(file: StorageFile, begin: number, end: number): Promise<void> {
  const bytes = Buffer.allocUnsafe(Math.min(end - begin, copyBytes))
  for (let at = begin; at < end; at += bytes.length) {
    const length = await file.read(bytes.subarray(0, Math.min(bytes.length, end - at)), at)
    await file.write(bytes.subarray(0, length), at)
  }
  await file.sync()
}

async function writeSnapshot(
  storage: Storage,
  path: string,
  state: CopyState,
): Promise<{ file: StorageFile; bytes: number }> {
  const temporary = `${path}.tmp`
  await storage.remove(temporary)
  const file = await storage.open(temporary, 'create-new')
  try {
    let bytes = 0
    for (const frame of encodeGroup(1, snapshotRecords(state), true)) {
      await file.write(frame, bytes)
      bytes += frame.length
    }
    await file.sync()
    await storage.rename(temporary, path)
    await storage.syncDirectory(parentDirectory(path))
    return { file, bytes }
  } catch (error) {
    await file.close()
    throw error
  }
}

function* snapshotRecords(state: CopyState): Generator<StateRecord> {
  yield { kind: 'header', blockBytes: state.tree.blockBytes }
  const given = new Set<number>()
  for (const { path, node } of state.tree.walk()) {
    switch (node.kind) {
      case 'file':
        yield { kind: 'name', op: { kind: 'file', path, file: node.file.id } }
        if (!given.has(node.file.id)) {
          for (const delta of fileDeltas(node.file, true)) yield { kind: 'delta', delta }
          if (node.file.names.size > 1) given.add(node.file.id)
        }
        break
      case 'directory':
        yield { kind: 'name', op: { kind: 'directory', path } }
        break
      case 'symlink':
        yield { kind: 'name', op: { kind: 'symlink', path, target: node.target } }
        break
      case 'other':
        yield { kind: 'name', op: { kind: 'other', path } }
        break
      default:
        unreachable(node)
    }
  }
  if (state.consistent !== undefined) yield { kind: 'commit', commit: state.consistent }
  if (state.commit !== undefined && state.commit !== state.consistent)
    yield { kind: 'commit', commit: state.commit }
  yield { kind: 'applied', generation: state.appliedGeneration }
}

async function loadNamed(file: StorageFile, path: string): Promise<LoadedLog> {
  try {
    return await load(file, path)
  } catch (error) {
    // whole frames whose content makes no sense
    if (error instanceof HotspareError && error.code === 'entry-invalid')
      throw damaged(path, undefined, error.message)
    throw error
  }
}

async function load(file: StorageFile, path: string): Promise<LoadedLog> {
  let state: CopyState | undefined
  let pending: StateRecord[] = []
  let groups = 0
  let lastBegin = 0
  let end = 0
  let snapshotBytes = 0
  const frames = readFrames(file, 0)
  let step = await frames.next()
  for (; !step.done; step = await frames.next()) {
    const frame = decodeGroupFrame(step.value.payload)
    if (frame.number !== groups + 1) throw damaged(path, step.value.offset, 'a group is missing before it')
    const records = frame.records()
    if (groups === 0 && state === undefined) {
      const header = records.shift()
      if (header?.kind !== 'header' || !frame.snapshot) throw damaged(path, 0, 'it does not begin as it must')
      state = emptyState(header.blockBytes)
    }
    // a snapshot got its name when it was whole, so it needs no memory for a second time
    if (frame.snapshot) applyRecords(state as CopyState, records)
    else pending.push(...records)
    if (!frame.last) continue
    if (frame.snapshot) {
      snapshotBytes = step.value.end
      applyGroup(state as CopyState, [])
      ;(state as CopyState).ahead = []
    } else applyGroup(state as CopyState, pending)
    pending = []
    groups++
    lastBegin = end
    end = step.value.end
  }
  if (state === undefined || groups === 0) throw damaged(path, 0, 'its beginning cannot be read')
  await checkEnd(file, path, step.value, groups)
  return { state, lastBegin, end, groups, snapshotBytes }
}

/** A torn last group is what a crash leaves; a later group behind it means that what was durable is damaged. */
async function checkEnd(file: StorageFile, path: string, ended: FramesEnd, groups: number): Promise<void> {
  if (ended.kind === 'whole') return
  const rest = Buffer.alloc(Math.min((await file.stat()).size - ended.offset, 16 * 1024 * 1024))
  const bytes = rest.subarray(0, await file.read(rest, ended.offset))
  // a follower may have completed it meanwhile
  if (readFrame(bytes, 0).kind === 'frame') return
  for (let at = 1; at < bytes.length; at++) {
    const frame = readFrame(bytes, at)
    if (frame.kind !== 'frame') continue
    if (decodeGroupFrame(frame.payload).number > groups + 1)
      throw damaged(path, ended.offset, 'there is a whole group behind it')
  }
}

function applyGroup(state: CopyState, records: readonly StateRecord[]): void {
  state.intents = []
  state.hot = new Set()
  state.closed = false
  applyRecords(state, records)
  if (!records.some(record => record.kind === 'intent')) state.intents = []
}

function applyRecords(state: CopyState, records: readonly StateRecord[]): void {
  for (const record of records) {
    switch (record.kind) {
      case 'name': {
        const { op } = record
        const adds = (op.kind === 'file' || op.kind === 'directory') && state.tree.find(op.path) === undefined
        state.tree.apply(op)
        state.intents.push(op)
        if (!adds) state.ahead.push(op)
        break
      }
      case 'delta': {
        const { file: id, size, mark, firstBlock, digests } = record.delta
        if (!state.tree.hasFile(id))
          throw new HotspareError('entry-invalid', `it tells of a file ${id}, which has no name`)
        const file = state.tree.file(id)
        file.blocks.restore(size, firstBlock, digests)
        file.mark = mark
        state.hot.add(file)
        break
      }
      case 'commit':
        state.commit = record.commit
        if (record.commit.consistent) state.consistent = record.commit
        state.ahead = []
        break
      case 'applying':
        state.applying = record.progress
        break
      case 'applied':
        state.appliedGeneration = record.generation
        state.applying = undefined
        break
      case 'closed':
        state.closed = true
        break
      case 'intent':
        state.intents = []
        break
      case 'header':
      case 'done':
        break
      default:
        unreachable(record)
    }
  }
}

function damaged(path: string, offset: number | undefined, what: string): HotspareError {
  return new HotspareError(
    'state-damaged',
    `The copy's state, '${path}', is damaged${offset === undefined ? '' : ` at offset ${offset}`}: ${what}. Use --resync to compare the copy with its source anew.`,
    { details: { path, offset } },
  )
}

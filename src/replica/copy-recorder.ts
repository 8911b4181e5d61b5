/**
 * Brings a copy's state log up to the copy: makes what was written durable, then says so.
 *
 * Order, which is the law: content, directories, then the state; and a change of names that can be seen is announced
 * in the state before it is made. So the state never claims what a crash could take away.
 */
import { assert, HotspareError } from '../os/errors.ts'
import { displayPath } from '../stream/entry.ts'
import type { CopyDisk } from './copy-disk.ts'
import type { CopyFile, NameOp } from './copy-tree.ts'
import type { CopyState, StateLog } from './state-log.ts'
import { fileDeltas, type RecordedCommit, type StateRecord } from './state-record.ts'

const statsAtOnceMax = 32
/** More changes of names than this are recorded by writing the log anew, so that they need not be kept in memory. */
const opsMax = 10_000

export class CopyRecorder {
  readonly state: CopyState
  readonly disk: CopyDisk
  readonly #log: StateLog
  readonly #changed = new Set<CopyFile>()
  #ops: NameOp[] = []
  #opsDropped = false
  #commit: RecordedCommit | undefined
  #consistent: RecordedCommit | undefined

  constructor(state: CopyState, disk: CopyDisk, log: StateLog) {
    this.state = state
    this.disk = disk
    this.#log = log
  }

  /** The file's bytes or attributes differ from what is recorded. */
  fileChanged(file: CopyFile): void {
    this.#changed.add(file)
  }

  /** Names were changed, in the tree already, and that is to be recorded with the next commit. */
  namesChanged(ops: readonly NameOp[]): void {
    if (this.#opsDropped) return
    this.#ops.push(...ops)
    if (this.#ops.length <= opsMax) return
    this.#opsDropped = true
    this.#ops = []
  }

  committed(commit: RecordedCommit): void {
    this.#commit = commit
    if (commit.consistent) this.#consistent = commit
  }

  /**
   * Resolves when all is durable and recorded. Names in `intents` are changed in the tree, recorded, and to be changed
   * on disk next. `extra` is recorded with the rest, all or nothing.
   */
  async settle(intents: readonly NameOp[] = [], extra: readonly StateRecord[] = []): Promise<void> {
    await this.disk.sync()
    await this.#refreshDigests()
    await this.#takeMarks()
    assert(intents.length === 0 || this.#ops.length === 0, 'names to announce while others are unrecorded')
    const records = [...this.#records(), ...extra, ...this.#announce(intents)]
    if (this.#opsDropped) {
      this.#adopt()
      for (const record of extra) if (record.kind === 'applied') this.#applied(record.generation)
      await this.#log.rewrite(this.state)
      this.state.closed = false
      assert(intents.length === 0, 'names to announce while many others are unrecorded')
    } else if (records.length > 0) {
      await this.#log.append(records)
      this.#adopt()
      this.state.closed = false
    }
    for (const record of extra) if (record.kind === 'applied') this.#applied(record.generation)
    for (const file of this.#changed) file.blocks.changed.clear()
    this.#changed.clear()
    this.state.ahead.push(...intents)
  }

  *#records(): Generator<StateRecord> {
    for (const op of this.#ops) yield { kind: 'name', op }
    for (const file of this.#changed) {
      if (file.names.size === 0) continue
      for (const delta of fileDeltas(file, false)) yield { kind: 'delta', delta }
    }
    if (this.#consistent !== undefined && this.#consistent !== this.#commit)
      yield { kind: 'commit', commit: this.#consistent }
    if (this.#commit !== undefined) yield { kind: 'commit', commit: this.#commit }
  }

  *#announce(intents: readonly NameOp[]): Generator<StateRecord> {
    if (intents.length === 0) return
    yield { kind: 'intent' }
    for (const op of intents) {
      this.state.tree.apply(op)
      yield { kind: 'name', op }
    }
    for (const op of intents) {
      if (op.kind !== 'take' && op.kind !== 'file') continue
      const file = this.state.tree.file(op.file)
      for (const delta of fileDeltas(file, true)) yield { kind: 'delta', delta }
      file.blocks.changed.clear()
    }
  }

  #adopt(): void {
    if (this.#commit !== undefined) this.state.ahead = []
    else this.state.ahead.push(...this.#ops)
    this.state.consistent = this.#consistent ?? this.state.consistent
    this.state.commit = this.#commit ?? this.state.commit
    this.#consistent = undefined
    this.#commit = undefined
    this.#ops = []
    this.#opsDropped = false
  }

  #applied(generation: number): void {
    this.state.appliedGeneration = generation
    this.state.applying = undefined
  }

  /** Records where the application of a journal stands, or that names are changed or the copy was left in order. */
  async note(record: Extract<StateRecord, { kind: 'applying' | 'closed' | 'done' }>): Promise<void> {
    await this.#log.append([record])
    this.state.closed = record.kind === 'closed'
  }

  /** Writes the log anew when it has grown; only when all is recorded. */
  async compact(): Promise<void> {
    if (!this.#log.isLarge || this.#changed.size > 0 || this.state.ahead.length > 0) return
    await this.#log.rewrite(this.state)
  }

  /** Digests of blocks that were changed in place, from their bytes as they are now. */
  async #refreshDigests(): Promise<void> {
    for (const file of this.#changed) {
      const { blocks, path } = file
      if (path === undefined) continue
      for (const block of [...blocks.stale]) {
        const bytes = Buffer.allocUnsafe(blocks.blockLength(block))
        const length = await this.disk.read(path, bytes, block * blocks.blockBytes)
        if (length < bytes.length) throw this.#lost(file, `is shorter than ${blocks.size} bytes`)
        blocks.refresh(block, bytes)
      }
    }
  }

  async #takeMarks(): Promise<void> {
    const files = [...this.#changed].filter(file => file.names.size > 0)
    for (let at = 0; at < files.length; at += statsAtOnceMax) {
      await Promise.all(files.slice(at, at + statsAtOnceMax).map(file => this.#takeMark(file)))
    }
  }

  async #takeMark(file: CopyFile): Promise<void> {
    const stat = file.path === undefined ? undefined : await this.disk.stat(file.path)
    if (stat?.kind !== 'file') throw this.#lost(file, 'is gone')
    file.mark = { mtimeNs: stat.mtimeNs, ctimeNs: stat.ctimeNs, inode: stat.inode }
  }

  #lost(file: CopyFile, what: string): HotspareError {
    return new HotspareError(
      'target-changed',
      `'${displayPath(file.path ?? '')}' in the copy '${this.disk.root}' ${what}: somebody else changed it. Use --resync to compare anew.`,
      { details: { path: file.path } },
    )
  }

  close(): Promise<void> {
    return this.#log.close()
  }
}

/**
 * A copy of a tree, all of it in synchronous calls: for a thread of its own (copy-thread.ts), and for tests.
 *
 * Invariant: what `flush` made durable is there after any crash, with its position; what can be seen under the target's
 * name is one whole pass, that before or that after, once a copy that was torn in between is opened again.
 */
import { describeSystemError } from '../../os/errors.ts'
import { cName, EEXIST, openFlag, systemError } from '../../os/tree-calls.ts'
import type { Entry } from '../../stream/entry.ts'
import type { Notice } from '../driver.ts'
import { applyPending, planEvacuations } from './copy-applying.ts'
import { AttributeSetter } from './copy-attributes.ts'
import type { CopyCalls } from './copy-calls.ts'
import type { CopyFiles } from './copy-files.ts'
import { KeptFiles } from './copy-kept.ts'
import type { CopyLog } from './copy-log.ts'
import { listNames } from './copy-names.ts'
import { digestBytes } from './copy-node.ts'
import { openCopyFiles, publishFirst } from './copy-opening.ts'
import { pendingSection } from './copy-pending.ts'
import { SectionWriter } from './copy-record.ts'
import type { CopyStage } from './copy-stage.ts'
import type { CopyState } from './copy-state.ts'
import { type CopyStatus, encodeStatus, toCopyCommit } from './copy-status.ts'
import { verifyBeforeApplying } from './copy-verifying.ts'
import { CopyWriter } from './copy-writer.ts'

export interface CopyEngineOptions {
  readonly calls: CopyCalls
  readonly target: string
  readonly sidecar: string
  readonly resync: boolean
  readonly noDelete: boolean
  onNotice(notice: Notice): void
}

/** What the caller allows while it holds the lock under which nobody begins to read; see copy-locking.ts. */
export type Showing =
  | { readonly kind: 'none' }
  /** `readers`: somebody reads the copy, so that what goes has to be kept. */
  | { readonly kind: 'allowed'; readonly readers: boolean }

export class CopyEngine {
  readonly #calls: CopyCalls
  readonly #target: string
  readonly #noDelete: boolean
  readonly #state: CopyState
  readonly #log: CopyLog
  #files: CopyFiles
  readonly #stage: CopyStage
  readonly #sidecar: number
  readonly #attributes: AttributeSetter
  #writer: CopyWriter
  /** Groups of commits that are not durable yet. */
  #unsynced: SectionWriter | undefined
  /** Something was changed since the last commit. */
  #inTransaction = false
  /** Something was written since the last sync of the file system. */
  #dirty = false
  #failed: unknown

  /** Throws what copy-opening.ts says. A copy that was being changed at a crash is torn until `flush` may show. */
  constructor(options: CopyEngineOptions) {
    this.#calls = options.calls
    this.#target = options.target
    this.#noDelete = options.noDelete
    try {
      const { state, log, files, stage, sidecar } = openCopyFiles(options)
      this.#state = state
      this.#log = log
      this.#files = files
      this.#stage = stage
      this.#sidecar = sidecar
    } catch (error) {
      throw describeSystemError(error, `opening the copy '${options.target}'`)
    }
    this.#attributes = new AttributeSetter(notice => options.onNotice(notice))
    this.#writer = this.#newWriter()
  }

  #newWriter(): CopyWriter {
    return new CopyWriter(this.#state, this.#files, this.#stage, this.#attributes)
  }

  get status(): Readonly<CopyStatus> {
    return this.#state.status
  }

  /** What a crash left has to be completed, by `flush` with leave to show. */
  get isTorn(): boolean {
    return this.#state.status.applying
  }

  write(entry: Entry): void {
    if (this.#failed !== undefined) throw this.#failed
    try {
      this.#write(entry)
    } catch (error) {
      throw this.#failedBy(error)
    }
  }

  #write(entry: Entry): void {
    if (entry.type === 'commit') {
      const sections = this.#unsynced ?? new SectionWriter()
      this.#writer.commit(sections)
      this.#unsynced = sections
      this.#inTransaction = false
      const { status } = this.#state
      status.commit = toCopyCommit(entry)
      if (entry.consistent) status.everHeld = true
      return
    }
    if (entry.type === 'remove' && this.#noDelete) return
    this.#inTransaction = true
    this.#dirty = true
    this.#writer.apply(entry)
  }

  /** The memory of all data that was given may be used again. */
  settle(): void {
    this.#guarded(() => this.#writer.settleHeld())
  }

  /** All commits that were written are durable, and what may be shown is shown, when it returns. */
  flush(showing: Showing): void {
    this.#guarded(() => this.#flush(showing))
  }

  #flush(showing: Showing): void {
    const { status, pending } = this.#state
    const mayShow = showing.kind === 'allowed' && !this.#inTransaction
    const shows = mayShow && (status.applying || this.#state.isShowable)
    if (this.#unsynced === undefined && !shows) return
    if (this.#dirty) this.#syncContent()
    const nothingToApply = status.phase === 'live' && pending.isEmpty && !status.applying
    if (shows && nothingToApply) this.#nowShown()
    if (shows && !nothingToApply) this.#show(showing.kind === 'allowed' && showing.readers)
    else this.#append()
    this.#collectGarbage()
    if (shows && showing.kind === 'allowed' && !showing.readers) this.#dropKept()
    if (this.#log.isLarge && !this.#inTransaction) this.#log.rewrite(this.#state.writeAll())
    if (!this.#inTransaction) this.#state.record.pack()
  }

  #syncContent(): void {
    this.#calls.syncFileSystem(this.#sidecar)
    if (!this.#inTransaction) this.#dirty = false
  }

  /** The status, and what was committed, becomes durable. */
  #append(): void {
    const sections = this.#unsynced ?? new SectionWriter()
    this.#state.writeStatus(sections)
    // nearly: what was changed since it was copied first is little beside all that is new
    this.#log.append(sections, this.#state.status.phase === 'first')
    this.#unsynced = undefined
  }

  #nowShown(): void {
    const { status } = this.#state
    status.shown = status.commit
    if (status.commit?.consistent) status.consistent = status.commit
  }

  #show(readers: boolean): void {
    const { status, pending, record } = this.#state
    const again = status.applying
    if (!again) {
      // nobody else is at work in a first copy
      if (status.phase === 'live') verifyBeforeApplying(this.#state, this.#files)
      planEvacuations(this.#state, this.#stage)
      const sections = this.#unsynced ?? new SectionWriter()
      pending.writeChanges(sections)
      this.#unsynced = sections
      status.applying = true
      this.#append()
    }
    const first = status.phase === 'first'
    applyPending({
      state: this.#state,
      files: this.#files,
      stage: this.#stage,
      attributes: this.#attributes,
      again,
      kept: readers ? new KeptFiles(this.#keptDirectory()) : undefined,
    })
    this.#calls.syncFileSystem(this.#sidecar)
    const sections = new SectionWriter()
    sections.add(pendingSection.none, () => undefined)
    record.writeChanges(sections)
    this.#unsynced = sections
    status.applying = false
    this.#nowShown()
    if (first) status.phase = 'publishing'
    this.#append()
    if (first) {
      publishFirst(this.#calls, this.#sidecar, this.#target)
      status.phase = 'live'
      this.#append()
    }
  }

  #kept: number | undefined

  #keptDirectory(): number {
    if (this.#kept === undefined) {
      const name = cName('kept')
      const made = this.#calls.tryMakeDirectoryAt(this.#sidecar, name, 0o700)
      if (made < 0 && made !== -(EEXIST as number)) throw systemError('mkdirat', -made, 'kept')
      this.#kept = this.#calls.openAt(this.#sidecar, name, openFlag.read | openFlag.directory)
    }
    return this.#kept
  }

  /** Nobody reads the copy: what was kept is not needed. */
  #dropKept(): void {
    const fd = this.#calls.tryOpenAt(this.#sidecar, cName('kept'), openFlag.read | openFlag.directory)
    if (fd < 0) return
    try {
      for (const name of listNames(this.#calls, fd)) this.#calls.tryUnlinkAt(fd, cName(name))
    } finally {
      this.#calls.closeFd(fd)
    }
  }

  #collectGarbage(): void {
    const { garbage } = this.#state.pending
    for (const stage of garbage) this.#stage.remove(stage)
    garbage.clear()
  }

  // ---- what there is

  /** Files with their digests, in the order of their paths; a file of several names under the first. */
  *files(): Generator<{ path: string; size: number; digests: Buffer }> {
    const given = new Set<unknown>()
    for (const [path, { node }] of this.#state.view.walk()) {
      if (node.kind !== 'file' || given.has(node)) continue
      if (this.#hasOtherNames(path)) given.add(node)
      yield { path, size: node.size, digests: node.digests.subarray(0, node.blocks * digestBytes) }
    }
  }

  *others(): Generator<{ path: string; kind: 'directory' | 'symlink' | 'hardlink' | 'other' }> {
    const given = new Set<unknown>()
    for (const [path, { node }] of this.#state.view.walk()) {
      if (node.kind !== 'file') {
        yield { path, kind: node.kind }
        continue
      }
      if (given.has(node)) yield { path, kind: 'hardlink' }
      else if (this.#hasOtherNames(path)) given.add(node)
    }
  }

  #hasOtherNames(path: string): boolean {
    const found = this.#state.view.find(path)
    if (found?.node.kind !== 'file') return false
    return found.file === undefined ? found.node.group !== 0 : found.file.names.size > 1
  }

  file(path: string): { size: number; digests: Buffer } | undefined {
    const node = this.#state.view.find(path)?.node
    if (node?.kind !== 'file') return undefined
    return { size: node.size, digests: node.digests.subarray(0, node.blocks * digestBytes) }
  }

  close(): void {
    const inOrder = this.#failed === undefined && !this.#dirty && this.#unsynced === undefined
    try {
      this.#writer.close()
    } finally {
      try {
        this.#log.close(inOrder ? encodeStatus(this.#state.status) : undefined)
      } finally {
        this.#files.close()
        this.#stage.close()
        if (this.#kept !== undefined) this.#calls.closeFd(this.#kept)
        this.#calls.closeFd(this.#sidecar)
      }
    }
  }

  #guarded(work: () => void): void {
    if (this.#failed !== undefined) throw this.#failed
    try {
      work()
    } catch (error) {
      throw this.#failedBy(error)
    }
  }

  #failedBy(error: unknown): unknown {
    this.#failed = describeSystemError(error, `writing the copy '${this.#target}'`)
    return this.#failed
  }
}

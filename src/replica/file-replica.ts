/**
 * A replica that is a directory of files, or one file.
 *
 * A copy takes changes *directly*, when any prefix of them is what the source might have been after a crash, or
 * *through the redo journal*, when they may only show together. A driver that applies in order goes directly, and
 * through the journal from the first change in place of a transaction on; a driver that applies atomically goes through
 * the journal always, once its copy can be seen. The first copy is built beside the target, and takes its name when it
 * is consistent.
 *
 * Invariant: what `sync` acknowledged is durable together with its position; what can be seen under the target's name
 * is consistent (or, in order, a prefix); see copy-opening.ts for what a crash leaves.
 */
import type { ConsistentCommit, Replica, ReplicaOptions } from '../drivers/driver.ts'
import { describeSystemError, HotspareError, unreachable } from '../os/errors.ts'
import {
  type Commit,
  displayPath,
  type Entry,
  type EntryPath,
  type Position,
  type StoreName,
} from '../stream/entry.ts'
import type { Inventory } from '../stream/sink.ts'
import { AheadChanges } from './ahead-changes.ts'
import { defaultBlockBytes } from './block-digests.ts'
import { CopyLocks } from './copy-locks.ts'
import { journalPlace, type OpenedCopy, openCopy, publish } from './copy-opening.ts'
import { copyPaths } from './copy-paths.ts'
import type { CopyRecorder } from './copy-recorder.ts'
import { changed, type DirectChange, DirectChanges } from './direct-changes.ts'
import { CopyInventory } from './file-inventory.ts'
import { applyJournal } from './journal-applying.ts'
import { PendingContent } from './pending-content.ts'
import { RedoJournal } from './redo-journal.ts'
import { StagedVersions } from './staged-versions.ts'
import { type RecordedCommit, toConsistent, toRecorded } from './state-record.ts'
import { changeTree } from './tree-change.ts'

export interface FileReplicaOptions {
  readonly applies: 'in-order' | 'atomic'
  /** Of a new copy; an old one keeps what it has. */
  readonly blockBytes?: number
}

/** Throws `target-foreign`, `target-changed`, `state-damaged` and what the system says. */
export async function openFileReplica(
  options: ReplicaOptions,
  { applies, blockBytes = defaultBlockBytes }: FileReplicaOptions,
): Promise<Replica> {
  const { storage, path: target, sidecar, resync } = options
  const locks = new CopyLocks(options, sidecar)
  try {
    const opened = await openCopy({
      storage,
      locks,
      target,
      sidecar,
      resync,
      appliesInOrder: applies === 'in-order',
      blockBytes,
    })
    for (const [file, size] of opened.excess) {
      options.onNotice({
        code: 'unrecorded-tail',
        message: `'${displayPath(file.path as EntryPath)}' has ${size - file.size} bytes that are not recorded yet: they are compared with what the source sends.`,
      })
    }
    return new FileReplica(options, applies, locks, opened)
  } catch (error) {
    throw describeSystemError(error, `opening the copy '${target}'`)
  }
}

class FileReplica implements Replica {
  readonly #options: ReplicaOptions
  readonly #applies: 'in-order' | 'atomic'
  readonly #locks: CopyLocks
  readonly #recorder: CopyRecorder
  readonly #direct: DirectChanges
  readonly #ahead: AheadChanges
  readonly #staged: StagedVersions
  #journal: RedoJournal | undefined
  #visible: boolean
  /** The last commit that was written, until it is durable. */
  #unsynced: RecordedCommit | undefined
  /** Something was written since the last commit. */
  #inTransaction = false
  /** The journal speaks of new versions that may not be durable. */
  #tookSinceSync = false
  #commitsTaken = 0
  #failed: unknown

  constructor(
    options: ReplicaOptions,
    applies: 'in-order' | 'atomic',
    locks: CopyLocks,
    { recorder, journal, visible, excess, lastStage }: OpenedCopy,
  ) {
    this.#options = options
    this.#applies = applies
    this.#locks = locks
    this.#recorder = recorder
    this.#journal = journal
    this.#visible = visible
    this.#direct = new DirectChanges(recorder, locks, () => this.#visible, excess)
    // a commit in the journal is behind them: they do not come again
    this.#ahead = new AheadChanges(journal === undefined ? recorder.state.ahead : [])
    this.#staged = new StagedVersions(recorder.disk, recorder.state.tree.blockBytes, lastStage)
  }

  async position(_store: StoreName): Promise<Position | undefined> {
    this.#checkLeftover()
    return (this.#journal?.durable?.commit ?? this.#recorder.state.commit)?.position
  }

  /** The position is asked before each reading, so that at the second the source has sent all that it has. */
  #checkLeftover(): void {
    if (this.#commitsTaken === 0) return
    this.#ahead.caughtUp()
    const { leftover } = this.#direct
    if (leftover === undefined) return
    const { path, size, found } = leftover
    throw changed(
      this.#recorder.disk.root,
      path,
      `has ${found} bytes, and its source ${size}: the others were put there by somebody else`,
    )
  }

  consistent(): ConsistentCommit | undefined {
    const commit = this.#visible ? this.#recorder.state.consistent : undefined
    return commit === undefined ? undefined : toConsistent(commit)
  }

  async inventory(_store: StoreName): Promise<Inventory | undefined> {
    const { state } = this.#recorder
    this.#ahead.clear()
    if (state.tree.root === undefined) return undefined
    return new CopyInventory(state.tree, this.#pendingContent())
  }

  write(entry: Entry): Promise<void> {
    return this.#guarded(() => this.#write(entry))
  }

  sync(): Promise<void> {
    return this.#guarded(() => this.#sync())
  }

  async #guarded(work: () => Promise<void>): Promise<void> {
    if (this.#failed !== undefined) throw this.#failed
    try {
      await work()
    } catch (error) {
      this.#failed = describeSystemError(error, `writing the copy '${this.#options.path}'`)
      throw this.#failed
    }
  }

  async #write(entry: Entry): Promise<void> {
    if (entry.store !== this.#options.store) {
      throw new HotspareError(
        'entry-invalid',
        `The copy is of store '${this.#options.store}', and got an entry of '${entry.store}'.`,
      )
    }
    // what can be seen first is just what was consistent first
    if (!this.#visible && this.#unsynced?.consistent) await this.#sync()
    if (entry.type === 'commit') return this.#commit(entry)
    if (entry.type === 'remove' && this.#options.noDelete) return
    this.#inTransaction = true
    switch (entry.type) {
      case 'record':
        throw new HotspareError('unsupported', 'A copy of files cannot take records.')
      case 'replace':
        return this.#staged.begin(entry.path)
      case 'replaced':
        if (!this.#staged.has(entry.path)) {
          throw new HotspareError(
            'entry-invalid',
            `A new version of '${displayPath(entry.path)}' ends that was never begun.`,
          )
        }
        return this.#take(entry.path)
      case 'write':
      case 'truncate':
      case 'attributes':
        if (this.#staged.has(entry.path)) await this.#staged.change(entry)
        else await this.#change(entry)
        // written, or copied into the journal
        if (entry.type === 'write') entry.recycle?.()
        return
      case 'remove':
      case 'rename':
      case 'node':
        return this.#change(entry)
      default:
        unreachable(entry)
    }
  }

  get #goesDirectly(): boolean {
    return this.#journal === undefined && (this.#applies === 'in-order' || !this.#visible)
  }

  async #change(change: DirectChange): Promise<void> {
    if (this.#ahead.hasMade(change)) return
    if (this.#goesDirectly && (await this.#direct.apply(change))) return
    const journal = await this.#journalled()
    const { ops, file } = changeTree(this.#recorder.state.tree, change)
    const isOfNames = change.type === 'remove' || change.type === 'rename' || change.type === 'node'
    // all is as it asks already; and a way through a link, where the tree has nothing, must not be gone
    if (isOfNames && ops.length === 0) return
    this.#recorder.namesChanged(ops)
    if (file !== undefined) {
      this.#recorder.fileChanged(file)
      this.#direct.forgetExcess(file)
    }
    await journal.append(change)
  }

  async #take(path: EntryPath): Promise<void> {
    const version = await this.#staged.finish(path)
    if (version === undefined) return
    const { stage, blocks } = version
    const take = { type: 'take', path, stage, size: blocks.size } as const
    if (this.#ahead.hasMade(take)) return
    if (this.#goesDirectly && (await this.#direct.take(path, stage, blocks))) return
    const journal = await this.#journalled()
    const { ops, file } = changeTree(this.#recorder.state.tree, take, blocks)
    this.#recorder.namesChanged(ops)
    if (file !== undefined) this.#recorder.fileChanged(file)
    await journal.append(take)
    this.#tookSinceSync = true
  }

  /** From here on the transaction goes through the journal; what went directly before is durable and recorded. */
  async #journalled(): Promise<RedoJournal> {
    if (this.#journal !== undefined) return this.#journal
    const { storage, sidecar } = this.#options
    const { tree, appliedGeneration } = this.#recorder.state
    await this.#recorder.settle()
    const place = journalPlace(storage, sidecar, tree.blockBytes)
    this.#journal = await RedoJournal.create(place, appliedGeneration + 1)
    return this.#journal
  }

  async #commit(commit: Commit): Promise<void> {
    for (const path of this.#staged.paths) await this.#take(path)
    this.#recorder.committed(toRecorded(commit))
    if (this.#journal !== undefined) {
      // a commit in the journal may become durable by itself, so what it needs has to be so before
      if (this.#tookSinceSync) await this.#recorder.disk.sync()
      this.#tookSinceSync = false
      await this.#journal.append(commit)
    }
    this.#unsynced = toRecorded(commit)
    this.#inTransaction = false
    this.#commitsTaken++
  }

  async #sync(): Promise<void> {
    if (!this.#visible && this.#unsynced?.consistent) await this.#makeRoot()
    if (this.#journal !== undefined) await this.#syncJournal(this.#journal)
    else if (this.#unsynced !== undefined || this.#inTransaction) await this.#recorder.settle()
    this.#unsynced = undefined
    if (this.#inTransaction || this.#journal !== undefined) return
    if (!this.#visible && this.#recorder.state.commit?.consistent) {
      await publish(this.#recorder, this.#options.path, this.#options.sidecar)
      this.#visible = true
    }
    await this.#recorder.compact()
  }

  async #syncJournal(journal: RedoJournal): Promise<void> {
    await journal.sync()
    // what is behind the last commit must not be applied, so it has to end with one
    const commit = this.#inTransaction ? undefined : journal.durable?.commit
    if (commit === undefined || (this.#visible && !commit.consistent)) return
    await applyJournal(journal, this.#recorder, this.#locks, journal.begin)
    this.#journal = undefined
  }

  /** A store without a file is an empty directory. */
  async #makeRoot(): Promise<void> {
    const { tree } = this.#recorder.state
    if (tree.root !== undefined) return
    const op = { kind: 'directory', path: '' as EntryPath } as const
    await this.#recorder.disk.perform(op)
    tree.apply(op)
    this.#recorder.namesChanged([op])
  }

  #pendingContent(): PendingContent | undefined {
    if (this.#journal === undefined) return undefined
    const { storage, sidecar } = this.#options
    return new PendingContent(storage, copyPaths(sidecar).state, this.#recorder.disk, this.#journal)
  }

  async close(): Promise<void> {
    try {
      await this.#close()
    } catch (error) {
      throw describeSystemError(error, `closing the copy '${this.#options.path}'`)
    }
  }

  async #close(): Promise<void> {
    const inOrder = this.#failed === undefined && !this.#inTransaction && this.#unsynced === undefined
    try {
      if (inOrder && this.#direct.leftover === undefined && !this.#recorder.state.closed)
        await this.#recorder.note({ kind: 'closed' })
    } finally {
      try {
        await this.#journal?.close()
      } finally {
        await this.#recorder.disk.close()
        await this.#recorder.close()
      }
    }
  }
}

/**
 * Bytes of a copy as a journal that is not applied yet will leave them. Read for an inventory alone, after a stop in
 * the middle of a large change; so it takes little memory, and reads the journal through for each range.
 */

import { assert } from '../os/errors.ts'
import type { Storage } from '../os/storage.ts'
import type { EntryPath } from '../stream/entry.ts'
import type { CopyDisk } from './copy-disk.ts'
import type { JournalEntry, RedoJournal } from './redo-journal.ts'
import { type CopyState, readState } from './state-log.ts'
import { changeTree } from './tree-change.ts'

export class PendingContent {
  readonly #storage: Storage
  readonly #statePath: string
  readonly #disk: CopyDisk
  readonly #journal: RedoJournal

  constructor(storage: Storage, statePath: string, disk: CopyDisk, journal: RedoJournal) {
    this.#storage = storage
    this.#statePath = statePath
    this.#disk = disk
    this.#journal = journal
  }

  async read(path: EntryPath, offset: number, length: number): Promise<Buffer> {
    const { id, stage } = await this.#identify(path)
    const state = await this.#recorded()
    const bytes = Buffer.alloc(length)
    if (stage !== undefined) await (await this.#disk.stageFile(stage)).read(bytes, offset)
    else if (state.tree.hasFile(id)) {
      const file = state.tree.file(id)
      const there = Math.max(0, Math.min(length, file.size - offset))
      await this.#disk.read(file.path as EntryPath, bytes.subarray(0, there), offset)
    }
    for await (const { entry } of this.#journal.entries(this.#journal.begin)) {
      const { file } = changeTree(state.tree, entry)
      if (file?.id === id) overlay(bytes, offset, entry)
    }
    return bytes
  }

  /** Which file has the path at the journal's end: the number is the same each time the journal is read. */
  async #identify(path: EntryPath): Promise<{ readonly id: number; readonly stage: number | undefined }> {
    const { tree } = await this.#recorded()
    const stages = new Map<number, number>()
    for await (const { entry } of this.#journal.entries(this.#journal.begin)) {
      const { file } = changeTree(tree, entry)
      if (entry.type === 'take' && file !== undefined) stages.set(file.id, entry.stage)
    }
    const file = tree.findFile(path)
    assert(file !== undefined, `the journal leaves no file '${path}'`)
    return { id: file.id, stage: stages.get(file.id) }
  }

  async #recorded(): Promise<CopyState> {
    const state = await readState(this.#storage, this.#statePath)
    assert(state !== undefined, 'the state of an open copy is gone')
    return state
  }
}

function overlay(bytes: Buffer, offset: number, entry: JournalEntry): void {
  if (entry.type === 'truncate') bytes.fill(0, Math.min(bytes.length, Math.max(0, entry.size - offset)))
  if (entry.type !== 'write') return
  const from = Math.max(entry.offset, offset)
  const to = Math.min(entry.offset + entry.data.length, offset + bytes.length)
  if (from < to) bytes.set(entry.data.subarray(from - entry.offset, to - entry.offset), from - offset)
}

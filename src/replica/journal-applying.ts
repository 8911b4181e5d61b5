/**
 * Applies a journal to the copy, after its tree has taken the changes already. Idempotent from the offset that the
 * state names: after a crash at any step it is done again from there, and ends the same.
 *
 * Steps: the state says that it begins; batch by batch, content and names are made durable and the state says how far;
 * at last the state takes the new digests, names and commit together with 'applied', all or nothing; then the journal
 * is removed. Clones are waited for first, and wait.
 */
import { assert } from '../os/errors.ts'
import type { CopyDisk } from './copy-disk.ts'
import type { CopyLocks } from './copy-locks.ts'
import type { CopyRecorder } from './copy-recorder.ts'
import { RedoBatch } from './redo-batch.ts'
import type { JournalEntry, RedoJournal } from './redo-journal.ts'
import { opOfNode } from './tree-change.ts'

export async function applyJournal(
  journal: RedoJournal,
  recorder: CopyRecorder,
  locks: CopyLocks,
  begin: number,
): Promise<void> {
  const { generation, durable } = journal
  assert(durable !== undefined, 'a journal without a commit')
  const { end } = durable
  const content = await locks.content('exclusive')
  try {
    const names = await locks.names('exclusive')
    try {
      await recorder.note({ kind: 'applying', progress: { generation, offset: begin, end } })
      const batch = new RedoBatch()
      for await (const { entry, offset } of journal.entries(begin)) {
        if (batch.conflicts(entry)) {
          await recorder.disk.sync()
          await recorder.note({ kind: 'applying', progress: { generation, offset, end } })
          batch.clear()
        }
        await applyEntry(recorder.disk, entry)
        batch.add(entry)
      }
      await recorder.settle([], [{ kind: 'applied', generation }])
    } finally {
      await names.release()
    }
  } finally {
    await content.release()
  }
  await journal.remove()
}

async function applyEntry(disk: CopyDisk, entry: JournalEntry): Promise<void> {
  switch (entry.type) {
    case 'write':
      await disk.ensureFile(entry.path)
      return disk.write(entry.path, entry.offset, entry.data)
    case 'truncate':
      await disk.ensureFile(entry.path)
      return disk.truncate(entry.path, entry.size)
    case 'attributes':
      return disk.setAttributes(entry.path, entry)
    case 'take':
      return disk.perform({ kind: 'take', path: entry.path, file: 0, stage: entry.stage })
    case 'remove':
      return disk.perform({ kind: 'remove', path: entry.path })
    case 'rename':
      return disk.perform({ kind: 'rename', path: entry.path, to: entry.to })
    case 'node':
      return disk.perform(opOfNode(entry.path, entry.node))
    case 'commit':
      return
  }
}

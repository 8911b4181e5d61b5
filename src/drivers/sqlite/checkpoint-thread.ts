/** The thread of a `Checkpointer`: sleeps until it is asked, runs one passive checkpoint, says how it went. */
import { workerData } from 'node:worker_threads'
import { type CheckpointThreadData, slot, task } from './checkpointer.ts'
import { openDatabase } from './engine.ts'
import { QuietMoment } from './quiet-moment.ts'
import { WalIndex } from './wal-index.ts'

const { path, shmFd, shared, failures } = workerData as CheckpointThreadData
const state = new Int32Array(shared)

try {
  const database = openDatabase(path)
  let index: WalIndex | undefined
  try {
    index = new WalIndex(shmFd)
    const quiet = new QuietMoment(index)
    quiet.await()
    // the engine connects to the log with the first statement that reads
    database.exec('PRAGMA wal_autocheckpoint = 0; PRAGMA schema_version')
    const checkpoint = database.prepare('PRAGMA wal_checkpoint(PASSIVE)')
    for (;;) {
      Atomics.wait(state, slot.task, task.none)
      if (Atomics.load(state, slot.task) === task.end) break
      quiet.await()
      const row = checkpoint.get() as { busy: number; log: number; checkpointed: number }
      Atomics.store(state, slot.busy, row.busy)
      Atomics.store(state, slot.log, row.log)
      Atomics.store(state, slot.checkpointed, row.checkpointed)
      // unless it was told to end meanwhile
      Atomics.compareExchange(state, slot.task, task.checkpoint, task.none)
      Atomics.notify(state, slot.task)
    }
  } finally {
    index?.close()
    database.close()
  }
} catch (error) {
  const { message, code, errcode } = error as Error & { code?: string; errcode?: number }
  failures.postMessage({ message, code, errcode })
  Atomics.store(state, slot.failed, 1)
}
Atomics.store(state, slot.task, task.ended)
Atomics.notify(state, slot.task)

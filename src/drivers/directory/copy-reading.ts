/**
 * Clones and checks a copy, whether its follower runs or not. While somebody reads (content.lock), the follower keeps
 * what it replaces; only at the beginning (names.lock) it has to wait until what the copy shows is noted.
 */
import { describeSystemError, HotspareError } from '../../os/errors.ts'
import type { FileLock } from '../../os/storage.ts'
import { startThread } from '../../os/thread.ts'
import { CopyLocks } from '../../replica/copy-locks.ts'
import type { CheckOptions, CheckReport, CloneOptions, CloneReport, CopyOptions } from '../driver.ts'
import { receiveError } from './copy-protocol.ts'
import type { CheckDone, CloneDone, ReadMessage, ReadThreadData } from './copy-read-protocol.ts'
import { missing } from './copy-recorded.ts'
import { restingReplica } from './copy-resting.ts'
import { toConsistent } from './copy-status.ts'

/** Throws `target-missing`, `target-incomplete`, `target-foreign`, `digest-mismatch` and what the system says. */
export async function cloneDirectoryCopy(options: CloneOptions): Promise<CloneReport> {
  const { storage, destination, path } = options
  if ((await storage.stat(destination)) !== undefined) {
    throw new HotspareError('target-foreign', `'${destination}' exists already. Give a name that is free.`, {
      details: { path: destination },
    })
  }
  const doing = `cloning '${path}' to '${destination}'`
  const done = (await readCopy(options, { kind: 'clone', destination }, doing)) as CloneDone
  if (!done.commit.consistent) {
    options.onNotice({
      code: 'not-consistent',
      message: `The source of '${path}' was never read while its application was held: the clone is its last whole pass, and not proved consistent.`,
    })
  }
  return { method: done.method, bytes: done.bytes, commit: toConsistent(done.commit) }
}

/** Throws `target-missing` and `target-incomplete`; what does not hold is in the report. */
export async function checkDirectoryCopy(options: CheckOptions): Promise<CheckReport> {
  const work = { kind: 'check', against: options.against } as const
  return ((await readCopy(options, work, `checking '${options.path}'`)) as CheckDone).report
}

/** Completes or drops what a crash left. Idempotent. */
export async function recoverDirectoryCopy(options: CopyOptions): Promise<void> {
  const { storage, path, sidecar } = options
  // nothing was begun: there is nothing to recover, and nothing to be made
  if ((await storage.stat(`${sidecar}/state.log`)) === undefined) {
    if ((await storage.stat(path)) === undefined) return
    throw missing(path)
  }
  const opening = { ...options, resync: false, noDelete: false }
  // it was closed in order: nothing is to be made good, and the record need not be read
  if ((await restingReplica(opening)) !== undefined) return
  const { openDirectoryReplica } = await import('./copy-replica.ts')
  const replica = await openDirectoryReplica(opening)
  await replica.close()
}

async function readCopy(
  options: CopyOptions,
  work: ReadThreadData['work'],
  doing: string,
): Promise<CloneDone | CheckDone> {
  const { storage, path, sidecar, signal } = options
  signal.throwIfAborted()
  if ((await storage.stat(sidecar)) === undefined) throw missing(path)
  const locks = new CopyLocks(options, sidecar)
  const content = await locks.content('shared')
  try {
    const names = await locks.names('shared')
    try {
      return await runThread(options, work, names)
    } finally {
      await names.release()
    }
  } catch (error) {
    throw describeSystemError(error, doing)
  } finally {
    await content.release()
  }
}

function runThread(
  { path, sidecar, signal, onProgress, onNotice }: CopyOptions,
  work: ReadThreadData['work'],
  names: FileLock,
): Promise<CloneDone | CheckDone> {
  const abort = new SharedArrayBuffer(4)
  const stop = () => void Atomics.store(new Int32Array(abort), 0, 1)
  signal.addEventListener('abort', stop)
  const worker = startThread('./copy-read-thread', import.meta.url, {
    workerData: { path, sidecar, work, abort } satisfies ReadThreadData,
  })
  const finished = new Promise<CloneDone | CheckDone>((resolve, reject) => {
    worker.on('message', (message: ReadMessage) => {
      switch (message.kind) {
        case 'noted':
          names.release().catch(reject)
          break
        case 'progress':
          onProgress({ bytes: message.bytes, totalBytes: message.totalBytes })
          break
        case 'notice':
          onNotice(message.notice)
          break
        case 'done':
          resolve(message.result)
          break
        case 'aborted':
          reject(signal.reason)
          break
        case 'failed':
          reject(receiveError(message.error))
      }
    })
    worker.on('error', reject)
    worker.on('exit', () => reject(new Error('the thread that reads the copy has ended')))
  })
  return finished.finally(() => {
    signal.removeEventListener('abort', stop)
    return worker.terminate()
  })
}

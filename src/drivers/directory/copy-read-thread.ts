/** The thread that clones or checks a copy, in synchronous calls. See copy-reading.ts. */
import { parentPort, workerData } from 'node:worker_threads'
import { systemCalls } from './copy-calls.ts'
import { checkTree } from './copy-check.ts'
import { cloneTree } from './copy-clone.ts'
import { sendError } from './copy-protocol.ts'
import { Aborted, type ReadMessage, type ReadThreadData, type ReadWork } from './copy-read-protocol.ts'
import { RecordedCopy } from './copy-recorded.ts'

const { path, sidecar, work, abort } = workerData as ReadThreadData
const aborted = new Int32Array(abort)
const progressMs = 50
let toldMs = 0

function send(message: ReadMessage): void {
  parentPort?.postMessage(message)
}

const outside: ReadWork = {
  noted: () => send({ kind: 'noted' }),
  progress(bytes, totalBytes) {
    if (Atomics.load(aborted, 0) !== 0) throw new Aborted()
    const nowMs = performance.now()
    if (nowMs - toldMs < progressMs && bytes < totalBytes) return
    toldMs = nowMs
    send({ kind: 'progress', bytes, totalBytes })
  },
  notice: notice => send({ kind: 'notice', notice }),
}

try {
  const copy = new RecordedCopy(systemCalls, path, sidecar)
  try {
    if (work.kind === 'clone') outside.noted()
    const result =
      work.kind === 'clone'
        ? cloneTree(systemCalls, copy, work.destination, outside)
        : checkTree(systemCalls, copy, work.against, outside)
    send({ kind: 'done', result })
  } finally {
    copy.close()
  }
} catch (error) {
  send(error instanceof Aborted ? { kind: 'aborted' } : { kind: 'failed', error: sendError(error) })
}

/** The thread that writes a copy: synchronous calls in batches, so that no file costs a promise. See copy-replica.ts. */
import { parentPort, workerData } from 'node:worker_threads'
import { unreachable } from '../../os/errors.ts'
import { storeName } from '../../stream/entry.ts'
import { SyncAhead } from './copy-ahead.ts'
import { decodeBatch, type EntryBatch } from './copy-batch.ts'
import { systemCalls } from './copy-calls.ts'
import { CopyEngine } from './copy-engine.ts'
import {
  type CopyAnswer,
  type CopyMessage,
  type CopyRequest,
  type CopyThreadData,
  type ListedFile,
  type ListedOther,
  sendError,
} from './copy-protocol.ts'

const data = workerData as CopyThreadData
const store = storeName(data.store)
const ahead = new SyncAhead(data.sidecar)
let engine: CopyEngine | undefined
let files: Generator<ListedFile> | undefined
let others: Generator<ListedOther> | undefined

function send(message: CopyMessage): void {
  parentPort?.postMessage(message)
}

parentPort?.on('message', async ({ id, request }: { id: number; request: CopyRequest }) => {
  if (request.kind === 'close') await ahead.close()
  try {
    send({ id, answer: answer(request) })
  } catch (error) {
    send({ id, error: sendError(error) })
  }
  if (request.kind === 'close') parentPort?.close()
})

function answer(request: CopyRequest): CopyAnswer {
  if (request.kind === 'close') {
    engine?.close()
    return {}
  }
  engine ??= new CopyEngine({
    ...data,
    calls: systemCalls,
    onNotice: notice => send({ notice }),
  })
  switch (request.kind) {
    case 'batch':
      write(engine, request.batch)
      return {}
    case 'flush':
      engine.flush(request.showing)
      return status(engine)
    case 'status':
      return status(engine)
    case 'files':
      if (request.anew || files === undefined) files = engine.files()
      return { files: next(files, request.countMax) }
    case 'others':
      if (request.anew || others === undefined) others = engine.others()
      return { others: next(others, request.countMax) }
    case 'file': {
      const found = engine.file(request.path)
      return { files: found === undefined ? [] : [{ path: request.path, ...found }] }
    }
    default:
      return unreachable(request)
  }
}

function write(to: CopyEngine, batch: EntryBatch): void {
  let bytes = 0
  let changes = 0
  for (const entry of decodeBatch(store, batch)) {
    to.write(entry)
    changes++
    if (entry.type === 'write') bytes += entry.data.length
  }
  to.settle()
  // later passes may be read while writers are held, who are not to wait for this disk
  if (to.status.phase === 'first') ahead.wrote(bytes, changes)
}

function status(of: CopyEngine): CopyAnswer {
  return { status: of.status, isTorn: of.isTorn }
}

function next<T>(from: Generator<T>, countMax: number): T[] {
  const some: T[] = []
  while (some.length < countMax) {
    const step = from.next()
    if (step.done) break
    some.push(step.value)
  }
  return some
}

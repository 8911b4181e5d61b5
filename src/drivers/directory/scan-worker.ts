/** A scanning thread: answers one request after another. */
import { parentPort } from 'node:worker_threads'
import { PathError } from './path-error.ts'
import { look } from './scan-look.ts'
import type { ScanAnswer, ScanFailure, ScanMessage, ScanReply, ScanRequest } from './scan-protocol.ts'
import { readBlocks, readEntries } from './scan-read.ts'

parentPort?.on('message', ({ id, request }: ScanMessage) => {
  let reply: ScanReply
  try {
    reply = { id, answer: answer(request) }
  } catch (error) {
    reply = { id, failure: failure(error) }
  }
  parentPort?.postMessage(reply)
})

function answer(request: ScanRequest): ScanAnswer {
  switch (request.kind) {
    case 'look':
      return look(request)
    case 'read':
      return readEntries(request)
    case 'blocks':
      return readBlocks(request)
  }
}

function failure(error: unknown): ScanFailure {
  const message = error instanceof Error ? (error.stack ?? error.message) : String(error)
  if (error instanceof PathError) return { message: error.message, code: error.code, path: error.path }
  const code = error instanceof Error ? (error as NodeJS.ErrnoException).code : undefined
  return { message, code, path: undefined }
}

/** A scanning thread: answers one request after another. */
import { parentPort } from 'node:worker_threads'
import { unreachable } from '../../os/errors.ts'
import { asFailure } from './path-error.ts'
import { look } from './scan-look.ts'
import type { LookRequest, ScanAnswer, ScanMessage, ScanReply, ScanRequest } from './scan-protocol.ts'

type Reading = typeof import('./scan-read.ts') & typeof import('./scan-blocks.ts')

/** Loaded when it is first needed: a look at a tree of which nothing changed begins sooner. */
let reading: Reading | undefined

parentPort?.on('message', async ({ id, request }: ScanMessage) => {
  let reply: ScanReply
  try {
    reply = { id, answer: request.kind === 'look' ? look(request) : read(request, await loadReading()) }
  } catch (error) {
    reply = { id, failure: asFailure(error) }
  }
  parentPort?.postMessage(reply)
})

async function loadReading(): Promise<Reading> {
  reading ??= { ...(await import('./scan-read.ts')), ...(await import('./scan-blocks.ts')) }
  return reading
}

type ReadingRequest = Exclude<ScanRequest, LookRequest>

function read(request: ReadingRequest, { readBlocks, readEntries }: Reading): ScanAnswer {
  switch (request.kind) {
    case 'read':
      return readEntries(request)
    case 'blocks':
      return readBlocks(request)
    case 'warm':
      return { warm: true }
    default:
      return unreachable(request)
  }
}

/** A scanning thread: answers one request after another. */
import { parentPort } from 'node:worker_threads'
import { asFailure } from './path-error.ts'
import { look } from './scan-look.ts'
import type { BlocksRequest, ReadRequest, ScanAnswer, ScanMessage, ScanReply } from './scan-protocol.ts'

type Reading = typeof import('./scan-read.ts')

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
  reading ??= await import('./scan-read.ts')
  return reading
}

function read(request: ReadRequest | BlocksRequest, { readBlocks, readEntries }: Reading): ScanAnswer {
  return request.kind === 'read' ? readEntries(request) : readBlocks(request)
}

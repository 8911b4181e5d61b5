/** A scanning thread: answers one request after another. */
import { parentPort } from 'node:worker_threads'
import { unreachable } from '../../os/errors.ts'
import { asFailure } from './path-error.ts'
import { look } from './scan-look.ts'
import type {
  BlocksRequest,
  ReadRequest,
  ScanAnswer,
  ScanMessage,
  ScanReply,
  ScanRequest,
  WarmRequest,
} from './scan-protocol.ts'

type Reading = typeof import('./scan-read.ts') & typeof import('./scan-blocks.ts')

/** Loaded when it is first needed: a look at a tree of which nothing changed begins sooner. */
let reading: Reading | undefined

parentPort?.on('message', async ({ id, request }: ScanMessage) => {
  let reply: ScanReply
  try {
    reply = { id, answer: await answer(request) }
  } catch (error) {
    reply = { id, failure: asFailure(error) }
  }
  parentPort?.postMessage(reply)
})

/** What comes while code is loaded waits: one request after another. */
let before: Promise<unknown> = Promise.resolve()

function answer(request: ScanRequest): ScanAnswer | Promise<ScanAnswer> {
  if (request.kind === 'look') return look(request)
  if (request.kind !== 'load' && request.kind !== 'ahead')
    return loadReading().then(reading => read(request, reading))
  const answered = before.then(async () => {
    const { loadAhead, lookAhead } = await import('./scan-ahead.ts')
    return request.kind === 'load' ? loadAhead(request) : lookAhead(request)
  })
  before = answered.catch(() => undefined)
  return answered
}

async function loadReading(): Promise<Reading> {
  reading ??= { ...(await import('./scan-read.ts')), ...(await import('./scan-blocks.ts')) }
  return reading
}

type ReadingRequest = ReadRequest | BlocksRequest | WarmRequest

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

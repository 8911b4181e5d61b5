/**
 * The thread that reads an archive back while it is written: takes each frame from the file (or as it will be sent),
 * decompresses it, and proves every header and content. It shares no code path with the writing but the formats.
 */
import { closeSync, fstatSync, openSync, readSync } from 'node:fs'
import { parentPort } from 'node:worker_threads'
import { HotspareError } from '../os/errors.ts'
import { decodeFrame, frameBytes } from './compression.ts'
import type { ReadBackReply, ReadBackRequest, ReadBackSubject } from './read-back-messages.ts'
import { TarReader } from './tar-reader.ts'

const port = parentPort
if (port === null) throw new Error('not a thread')

const reply = (message: ReadBackReply): void => port.postMessage(message)
const reader = new TarReader({
  onMember() {},
  onFault: fault => reply({ kind: 'fault', fault }),
})
let subject: ReadBackSubject = { format: 'tar', path: undefined }
let memory = Buffer.allocUnsafeSlow(frameBytes + 64 * 1024)
/** Read by synchronous calls: a thread that is ended within an asynchronous one takes the process with it. */
let fd: number | undefined
let fileBytes = 0
let work: Promise<void> = Promise.resolve()

port.on('message', (request: ReadBackRequest) => {
  work = work.then(() => take(request)).catch(fail)
})

function fail(error: unknown): void {
  if (error instanceof HotspareError) {
    reply({ kind: 'damaged', what: error.message })
    return
  }
  const { message, code } = error as NodeJS.ErrnoException
  reply({ kind: 'failed', message: String(message), system: code })
}

async function take(request: ReadBackRequest): Promise<void> {
  if (request.kind === 'begin') {
    subject = request.subject
    return
  }
  if (request.kind === 'end') {
    await end(request.fileBytes)
    return
  }
  if (request.offset !== fileBytes)
    throw damaged(`a frame stands at byte ${request.offset}, not ${fileBytes}`)
  const bytes = await bytesOf(request)
  fileBytes += bytes.length
  const raw = decode(bytes, request.offset)
  if (raw.length !== request.rawBytes)
    throw damaged(`the frame at byte ${request.offset} gives ${raw.length} bytes, not ${request.rawBytes}`)
  reader.push(raw)
  reply({ kind: 'checked' })
}

async function bytesOf({
  offset,
  length,
  bytes,
}: Extract<ReadBackRequest, { kind: 'frame' }>): Promise<Buffer> {
  if (bytes !== undefined) return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)
  if (subject.path === undefined) throw new Error('no file to read back')
  fd ??= openSync(subject.path, 'r')
  if (memory.length < length) memory = Buffer.allocUnsafeSlow(length)
  for (let found = 0; found < length; ) {
    const bytesRead = readSync(fd, memory, found, length - found, offset + found)
    if (bytesRead === 0) throw damaged(`the file ends at byte ${offset + found}`)
    found += bytesRead
  }
  return memory.subarray(0, length)
}

function decode(bytes: Buffer, offset: number): Buffer {
  try {
    return decodeFrame(subject.format, bytes)
  } catch (error) {
    throw damaged(`the frame at byte ${offset} cannot be decompressed`, error)
  }
}

async function end(expectedBytes: number): Promise<void> {
  reader.end()
  if (fileBytes !== expectedBytes) throw damaged(`${fileBytes} bytes were read back of ${expectedBytes}`)
  const size = fd === undefined ? expectedBytes : fstatSync(fd).size
  if (fd !== undefined) closeSync(fd)
  fd = undefined
  if (size !== expectedBytes) throw damaged(`the file has ${size} bytes, not ${expectedBytes}`)
  reply({ kind: 'result', result: { members: reader.members, chain: reader.chain } })
}

function damaged(what: string, cause?: unknown): HotspareError {
  return new HotspareError('archive-damaged', what, { cause })
}

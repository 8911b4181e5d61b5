/** A command's end of a running server's local socket. */
import type { Socket } from 'node:net'
import { type ErrorCode, errorCodes, HotspareError, isSystemError } from '../os/errors.ts'
import { connectLocal } from '../os/local-socket.ts'
import { parsed, parseJson } from '../replica/meta.ts'
import {
  type ServerRequestBody,
  serverAnswerSchema,
  serverProtocolVersion,
  serverSocketName,
} from './server-protocol.ts'

/**
 * Rejects with `server-stopped` when none runs, with what the server says, and with the signal's reason on abort.
 */
export async function callServer<Value>(
  stateDirectory: string,
  request: ServerRequestBody,
  signal: AbortSignal,
): Promise<Value> {
  return askServer(await connectServer(stateDirectory), request, signal)
}

/** For one request. Rejects with `server-stopped` when none runs. */
export async function connectServer(stateDirectory: string): Promise<Socket> {
  const socket = await connectLocal(stateDirectory, serverSocketName).catch(error => {
    if (isSystemError(error, 'ENOENT', 'ENOTDIR')) return undefined
    throw isSystemError(error, 'EACCES', 'EPERM')
      ? new HotspareError(
          'permission-denied',
          `The server's socket in ${stateDirectory} is another user's. Run as the user who runs the server.`,
        )
      : error
  })
  if (socket === undefined) {
    throw new HotspareError(
      'server-stopped',
      `No server runs with its state in ${stateDirectory}. Start it with 'hotspare serve'.`,
    )
  }
  return socket
}

/** Ends the connection. Rejects as `callServer` does. */
export async function askServer<Value>(
  socket: Socket,
  request: ServerRequestBody,
  signal: AbortSignal,
): Promise<Value> {
  const stop = () => socket.destroy()
  signal.addEventListener('abort', stop, { once: true })
  if (signal.aborted) stop()
  try {
    const text = await new Promise<string>((resolve, reject) => {
      let received = ''
      socket.setEncoding('utf8')
      socket.on('data', (piece: string) => {
        received += piece
      })
      socket.once('error', reject)
      socket.once('close', () => resolve(received))
      socket.write(`${JSON.stringify({ v: serverProtocolVersion, ...request })}\n`)
    })
    signal.throwIfAborted()
    const answer = parsed(serverAnswerSchema, parseJson(text))
    if (answer === undefined) {
      throw new HotspareError('server-stopped', 'The server ended before it answered. Look at its messages.')
    }
    if (answer.answer === 'done') return answer.value as Value
    if (answer.code in errorCodes) throw new HotspareError(answer.code as ErrorCode, answer.message)
    throw new Error(`the server: ${answer.message}`)
  } finally {
    signal.removeEventListener('abort', stop)
  }
}

/** A running server's end of its local socket. */
import type { Socket } from 'node:net'
import { describeSystemError, HotspareError } from '../os/errors.ts'
import { type LocalServer, listenLocal } from '../os/local-socket.ts'
import { parsed, parseJson } from '../replica/meta.ts'
import type { Server } from '../server/server.ts'
import { storeName } from '../stream/entry.ts'
import {
  requestBytesMax,
  type ServerAnswerBody,
  type ServerRequest,
  serverProtocolVersion,
  serverRequestSchema,
  serverSocketName,
} from './server-protocol.ts'

/** To be called by whoever holds the state directory: a socket that is there already is a dead server's. */
export function serveSocket(stateDirectory: string, server: Server): Promise<LocalServer> {
  return listenLocal(stateDirectory, serverSocketName, socket => serveOne(socket, server))
}

function serveOne(socket: Socket, server: Server): void {
  let waiting = ''
  let asked = false
  const gone = new AbortController()
  socket.setEncoding('utf8')
  socket.on('error', () => socket.destroy())
  socket.once('close', () => gone.abort())
  socket.on('data', (text: string) => {
    if (asked) return
    waiting += text
    const end = waiting.indexOf('\n')
    if (end < 0) {
      if (waiting.length > requestBytesMax) socket.destroy()
      return
    }
    asked = true
    answer(server, parseJson(waiting.slice(0, end)), gone.signal).then(reply => {
      if (!socket.destroyed) socket.end(`${JSON.stringify({ v: serverProtocolVersion, ...reply })}\n`)
    })
  })
}

async function answer(server: Server, json: unknown, signal: AbortSignal): Promise<ServerAnswerBody> {
  try {
    const request = parsed(serverRequestSchema, json)
    if (request === undefined || request.v !== serverProtocolVersion) {
      throw new HotspareError(
        'unsupported',
        'The server is of another version of hotspare than this command. Restart it with this one.',
      )
    }
    return { answer: 'done', value: (await act(server, request, signal)) ?? {} }
  } catch (thrown) {
    const error = describeSystemError(thrown, 'The server')
    const code = error instanceof HotspareError ? error.code : 'bug'
    return { answer: 'failed', code, message: error instanceof Error ? error.message : String(error) }
  }
}

async function act(server: Server, request: ServerRequest, signal: AbortSignal): Promise<unknown> {
  switch (request.request) {
    case 'status':
      return server.status()
    case 'messages':
      return server.messages(request.count)
    case 'enqueue':
      return server.setEnqueuing(request.on)
    case 'apply':
      return server.setApplying(request.on)
    case 'probe':
      return server.probe(request.peer, request.bytes, signal)
    case 'wait':
      return server.waitFor(request.peer, signal)
    case 'promote':
      // who asked may go away; half a promotion helps nobody
      return server.promote({
        planned: request.planned,
        dryRun: request.dryRun,
        force: request.force,
        signal: new AbortController().signal,
      })
    case 'rejoin':
      return server.rejoin(request.upstream, new AbortController().signal)
    case 'release':
      return server.release(storeName(request.store), request.how)
    default:
      request satisfies never
  }
}

/** The follower's end of `control`: serves one mirror at a time from its gate. */

import type { Socket } from 'node:net'
import { HotspareError } from '../os/errors.ts'
import { type LocalServer, listenLocal } from '../os/local-socket.ts'
import { parsed } from '../replica/meta.ts'
import {
  type ControlRequest,
  controlName,
  controlVersion,
  readLines,
  requestSchema,
  sendLine,
} from './control-protocol.ts'
import { type HeldPass, PassAbandoned } from './pass-request.ts'
import type { PassClient, PassGate } from './passes.ts'

/** To be called by whoever has the sidecar's lock: a socket that is there already is a dead follower's. */
export function serveControl(sidecar: string, gate: PassGate): Promise<LocalServer> {
  return listenLocal(sidecar, controlName, socket => new Session(socket, gate))
}

class Session {
  readonly #socket: Socket
  readonly #gate: PassGate
  #client: PassClient | undefined
  #held: HeldPass | undefined

  constructor(socket: Socket, gate: PassGate) {
    this.#socket = socket
    this.#gate = gate
    socket.on('error', () => socket.destroy())
    socket.once('close', () => this.#client?.end())
    readLines(socket, json => this.#take(json))
  }

  #take(json: unknown): void {
    const data = parsed(requestSchema, json)
    if (data === undefined || data.v !== controlVersion) {
      this.#fail(
        new HotspareError(
          'unsupported',
          'The follower is of another version of hotspare than the mirror. Start it anew with this one.',
        ),
      )
      this.#socket.end()
      return
    }
    try {
      this.#serve(data)
    } catch (error) {
      this.#fail(error)
    }
  }

  #serve(request: ControlRequest): void {
    switch (request.request) {
      case 'pass': {
        this.#client ??= this.#gate.connect(request.ignore)
        this.#client.pass().then(
          report => sendLine(this.#socket, { answer: 'passed', report }),
          error => this.#fail(error),
        )
        break
      }
      case 'hold': {
        this.#client ??= this.#gate.connect()
        const held = this.#client.hold()
        this.#held = held
        held.read.then(
          report =>
            sendLine(this.#socket, { answer: 'read', report: { ...report, changed: [...report.changed] } }),
          error => {
            if (error instanceof PassAbandoned) sendLine(this.#socket, { answer: 'abandoned' })
          },
        )
        held.durable.then(
          () => sendLine(this.#socket, { answer: 'durable' }),
          error => this.#fail(error),
        )
        break
      }
      case 'conclude':
        this.#held?.conclude(request.keep)
    }
  }

  #fail(error: unknown): void {
    if (error instanceof PassAbandoned) return
    const code = error instanceof HotspareError ? error.code : 'io-error'
    const message = error instanceof Error ? error.message : String(error)
    sendLine(this.#socket, { answer: 'failed', code, message })
  }
}

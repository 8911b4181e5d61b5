/** The mirror's end of `control`: the same requests as of a gate in its own process. */

import type { Socket } from 'node:net'
import { type ErrorCode, errorCodes, HotspareError } from '../os/errors.ts'
import { connectLocal } from '../os/local-socket.ts'
import { parsed } from '../replica/meta.ts'
import { answerSchema, type ControlAnswer, controlName, readLines, sendLine } from './control-protocol.ts'
import {
  type HeldPass,
  type HeldPassReport,
  PassAbandoned,
  type PassReport,
  Request,
} from './pass-request.ts'
import type { PassClient } from './passes.ts'

/** Undefined when no follower listens there. */
export async function connectControl(
  sidecar: string,
  ignore: readonly string[],
): Promise<PassClient | undefined> {
  const socket = await connectLocal(sidecar, controlName)
  return socket === undefined ? undefined : new RemoteClient(socket, ignore)
}

class RemoteClient implements PassClient {
  readonly #socket: Socket
  readonly #ignore: readonly string[]
  #pass: Request<PassReport> | undefined
  #held: { readonly read: Request<HeldPassReport>; readonly durable: Request<void> } | undefined
  #gone: HotspareError | undefined
  #ended = false

  constructor(socket: Socket, ignore: readonly string[]) {
    this.#socket = socket
    this.#ignore = ignore
    readLines(socket, json => this.#take(json))
    socket.on('error', () => socket.destroy())
    socket.once('close', () => {
      this.#gone = new HotspareError('target-busy', 'The follower of the copy ended meanwhile. Run it again.')
      this.#fail(this.#ended ? new PassAbandoned('The mirror has ended.') : this.#gone)
    })
  }

  async pass(): Promise<PassReport> {
    if (this.#gone !== undefined) throw this.#gone
    this.#pass = new Request()
    sendLine(this.#socket, { request: 'pass', ignore: [...this.#ignore] })
    return this.#pass.outcome
  }

  hold(): HeldPass {
    const held = { read: new Request<HeldPassReport>(), durable: new Request<void>() }
    this.#held = held
    if (this.#gone === undefined) sendLine(this.#socket, { request: 'hold' })
    else this.#fail(this.#gone)
    let concluded = false
    return {
      read: held.read.outcome,
      durable: held.durable.outcome,
      conclude: keep => {
        if (concluded) return
        concluded = true
        sendLine(this.#socket, { request: 'conclude', keep })
        if (!keep) this.#fail(new PassAbandoned('The maintenance window was given up.'))
      },
    }
  }

  end(): void {
    this.#ended = true
    this.#socket.destroy()
  }

  #take(json: unknown): void {
    const data = parsed(answerSchema, json)
    if (data === undefined) {
      this.#fail(
        new HotspareError('unsupported', 'The follower answers in a way that this hotspare does not know.'),
      )
      this.#socket.destroy()
      return
    }
    this.#answered(data)
  }

  #answered(data: ControlAnswer): void {
    switch (data.answer) {
      case 'passed':
        this.#pass?.resolve(data.report)
        break
      case 'read':
        this.#held?.read.resolve(data.report)
        break
      case 'durable':
        this.#held?.durable.resolve()
        break
      case 'abandoned':
        this.#held?.read.reject(new PassAbandoned('The read inside the window ended early.'))
        break
      case 'failed':
        this.#fail(
          new HotspareError(data.code in errorCodes ? (data.code as ErrorCode) : 'io-error', data.message),
        )
    }
  }

  #fail(error: unknown): void {
    this.#pass?.reject(error)
    this.#held?.read.reject(error)
    this.#held?.durable.reject(error)
  }
}

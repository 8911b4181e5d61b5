/** Just enough of the NATS protocol to publish into a JetStream stream and wait for its acknowledgements. */
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'

export class JetStream {
  readonly #socket: Socket
  #rest: Buffer = Buffer.alloc(0)
  #onMessage: (payload: string) => void = () => undefined

  private constructor(socket: Socket) {
    this.#socket = socket
    socket.on('data', data => this.#take(data))
  }

  static async connect(port: number): Promise<JetStream> {
    const socket = connect({ port, host: '127.0.0.1', noDelay: true })
    await once(socket, 'connect')
    const stream = new JetStream(socket)
    socket.write('CONNECT {"verbose":false,"pedantic":false}\r\nSUB answers 1\r\n')
    return stream
  }

  #take(data: Buffer): void {
    this.#rest = this.#rest.length === 0 ? data : Buffer.concat([this.#rest, data])
    for (;;) {
      const end = this.#rest.indexOf('\r\n')
      if (end < 0) return
      const line = this.#rest.toString('latin1', 0, end)
      const bytes = line.startsWith('MSG ') ? Number(line.slice(line.lastIndexOf(' ') + 1)) + 2 : 0
      if (this.#rest.length < end + 2 + bytes) return
      const payload = this.#rest.toString('latin1', end + 2, end + bytes)
      this.#rest = this.#rest.subarray(end + 2 + bytes)
      if (line === 'PING') this.#socket.write('PONG\r\n')
      else if (line.startsWith('-ERR')) throw new Error(`nats-server: ${line}`)
      else if (bytes > 0) this.#onMessage(payload)
    }
  }

  async ask(subject: string, request: unknown): Promise<void> {
    const text = JSON.stringify(request)
    const answer = await new Promise<string>(resolve => {
      this.#onMessage = resolve
      this.#socket.write(`PUB ${subject} answers ${Buffer.byteLength(text)}\r\n${text}\r\n`)
    })
    if (answer.includes('"error"')) throw new Error(`nats-server: ${answer}`)
  }

  /** Publishes for so long, with so many not acknowledged at a time; gives how many were. */
  async publish(
    subject: string,
    data: Buffer,
    seconds: number,
    window: number,
  ): Promise<{ count: number; seconds: number }> {
    const message = Buffer.concat([
      Buffer.from(`PUB ${subject} answers ${data.length}\r\n`),
      data,
      Buffer.from('\r\n'),
    ])
    const startMs = performance.now()
    const endMs = startMs + seconds * 1000
    let count = 0
    let open = window
    return new Promise((resolve, reject) => {
      this.#onMessage = answer => {
        if (!answer.includes('"seq"')) reject(new Error(`nats-server: ${answer}`))
        count++
        if (performance.now() < endMs) this.#socket.write(message)
        else if (--open === 0) resolve({ count, seconds: (performance.now() - startMs) / 1000 })
      }
      for (let i = 0; i < window; i++) this.#socket.write(message)
    })
  }

  close(): void {
    this.#socket.destroy()
  }
}

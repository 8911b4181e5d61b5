/**
 * A network that delays, stalls, breaks and damages what goes over it. A connection is a TCP connection to who uses it:
 * bytes come in order or not at all, and what is lost is a connection's rest. So what was sent and not received is sent
 * again over another connection (a duplicate), and an old connection may still bring what was sent before.
 */
import type { Random } from '../../src/os/testing/random.ts'
import type { ByteStream, Listener, Transport } from '../../src/os/transport.ts'
import type { VirtualTime } from './virtual-time.ts'

export interface NetworkFaults {
  /** One of so many pieces breaks its connection; 0: none. */
  readonly breakOneOf: number
  /** One of so many pieces has a bit turned; 0: none. */
  readonly damageOneOf: number
  readonly delayMsMax: number
}

export const calmNetwork: NetworkFaults = { breakOneOf: 0, damageOneOf: 0, delayMsMax: 2 }

/** What may be under way in one direction before the writer waits. */
const windowBytes = 256 * 1024
/** A connection attempt to where nobody answers ends after so long. */
const connectMsMax = 3_000

/** Of a host, from one power-on to the next. */
interface Life {
  readonly host: string
  isOver: boolean
  /** What lets go of each there that waits to connect. */
  readonly pausing: Set<() => void>
}

export class VirtualNetwork {
  readonly #time: VirtualTime
  readonly #random: Random
  readonly #listeners = new Map<string, (stream: ByteStream) => void>()
  readonly #connections = new Set<Connection>()
  readonly #cuts = new Set<string>()
  readonly #lives = new Map<string, Life>()
  faults: NetworkFaults = calmNetwork

  constructor(time: VirtualTime, random: Random) {
    this.#time = time
    this.#random = random
  }

  /** For what runs on the host until that is down. */
  transport(host: string): Transport {
    const life: Life = { host, isOver: false, pausing: new Set() }
    this.#lives.set(host, life)
    return {
      connect: (address, signal) => this.#connect(life, address, signal),
      listen: async (address, onConnection): Promise<Listener> => {
        if (this.#listeners.has(address)) throw new Error(`somebody listens at ${address} already`)
        this.#listeners.set(address, onConnection)
        return {
          address,
          close: async () => {
            if (this.#listeners.get(address) === onConnection) this.#listeners.delete(address)
          },
        }
      },
    }
  }

  /** Nothing goes between the two until `heal`; what is open stays open, and stalls. */
  cut(a: string, b: string): void {
    this.#cuts.add(pair(a, b))
  }

  heal(): void {
    this.#cuts.clear()
    for (const connection of this.#connections) connection.go()
  }

  isCut(a: string, b: string): boolean {
    return this.#cuts.has(pair(a, b))
  }

  /** The machine is gone: its connections break for the other side, now or when it next sends. */
  down(host: string): void {
    for (const address of [...this.#listeners.keys()])
      if (hostOf(address) === host) this.#listeners.delete(address)
    for (const connection of [...this.#connections]) if (connection.has(host)) connection.break()
    const life = this.#lives.get(host)
    if (life === undefined) return
    life.isOver = true
    // nothing that waits there is held any more: a signal that combines others would hold it, and the world with it
    for (const letGo of life.pausing) letGo()
  }

  async #connect(life: Life, address: string, signal: AbortSignal): Promise<ByteStream> {
    const from = life.host
    const to = hostOf(address)
    const tries = this.#time.nowMs + connectMsMax
    for (;;) {
      signal.throwIfAborted()
      await this.#pause(life, 1 + this.#random.below(this.faults.delayMsMax + 1), signal)
      const accept = this.#listeners.get(placeOf(address))
      if (!this.isCut(from, to)) {
        if (accept === undefined) throw Object.assign(new Error('ECONNREFUSED'), { code: 'ECONNREFUSED' })
        const connection = new Connection(this, this.#time, this.#random, from, to)
        this.#connections.add(connection)
        accept(connection.end(to, from))
        return connection.end(from, to)
      }
      if (this.#time.nowMs >= tries) throw Object.assign(new Error('ETIMEDOUT'), { code: 'ETIMEDOUT' })
      await this.#pause(life, 500, signal)
    }
  }

  /** Never ends for who is on a host that is down. */
  #pause({ isOver, pausing }: Life, ms: number, signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      if (isOver) return
      const letGo = () => {
        forget()
        signal.removeEventListener('abort', stop)
        pausing.delete(letGo)
      }
      const stop = () => {
        letGo()
        reject(signal.reason)
      }
      const forget = this.#time.after(ms, () => {
        letGo()
        resolve()
      })
      signal.addEventListener('abort', stop, { once: true })
      pausing.add(letGo)
    })
  }

  forget(connection: Connection): void {
    this.#connections.delete(connection)
  }
}

class Connection {
  readonly #network: VirtualNetwork
  readonly #hosts: readonly [string, string]
  readonly #ways: ReadonlyMap<string, Way>

  constructor(network: VirtualNetwork, time: VirtualTime, random: Random, a: string, b: string) {
    this.#network = network
    this.#hosts = [a, b]
    const way = (from: string, to: string) => new Way(network, time, random, from, to, () => this.break())
    this.#ways = new Map([
      [a, way(a, b)],
      [b, way(b, a)],
    ])
  }

  has(host: string): boolean {
    return this.#hosts.includes(host)
  }

  end(own: string, other: string): ByteStream {
    const out = this.#ways.get(own) as Way
    const into = this.#ways.get(other) as Way
    return {
      peer: other,
      read: () => into.read(),
      write: data => out.write(data),
      close: () => {
        out.finish()
        into.abandon()
        this.#network.forget(this)
      },
    }
  }

  break(): void {
    for (const way of this.#ways.values()) way.break()
    this.#network.forget(this)
  }

  go(): void {
    for (const way of this.#ways.values()) way.go()
  }
}

/** One direction of a connection. */
class Way {
  readonly #network: VirtualNetwork
  readonly #time: VirtualTime
  readonly #random: Random
  readonly #from: string
  readonly #to: string
  readonly #breakAll: () => void
  #sent: Buffer[] = []
  #sentBytes = 0
  #arrived: Buffer[] = []
  #state: 'open' | 'finished' | 'abandoned' | 'broken' = 'open'
  #ended = false
  #moving = false
  #readerWakes: (() => void) | undefined
  #writersWake: (() => void)[] = []

  constructor(
    network: VirtualNetwork,
    time: VirtualTime,
    random: Random,
    from: string,
    to: string,
    breakAll: () => void,
  ) {
    this.#network = network
    this.#time = time
    this.#random = random
    this.#from = from
    this.#to = to
    this.#breakAll = breakAll
  }

  async write(data: Uint8Array): Promise<void> {
    if (this.#state !== 'open') throw broken()
    this.#sent.push(Buffer.from(data))
    this.#sentBytes += data.length
    this.go()
    while (this.#state === 'open' && this.#sentBytes > windowBytes)
      await new Promise<void>(resolve => this.#writersWake.push(resolve))
    if (this.#state !== 'open') throw broken()
  }

  read(): AsyncIterable<Buffer> {
    return { [Symbol.asyncIterator]: () => ({ next: () => this.#next() }) }
  }

  async #next(): Promise<IteratorResult<Buffer, undefined>> {
    for (;;) {
      const piece = this.#arrived.shift()
      if (piece !== undefined) return { done: false, value: piece }
      if (this.#state === 'broken') throw broken()
      if (this.#ended || this.#state === 'abandoned') return { done: true, value: undefined }
      await new Promise<void>(resolve => {
        this.#readerWakes = resolve
      })
    }
  }

  finish(): void {
    if (this.#state === 'open') this.#state = 'finished'
    this.#wakeWriters()
    this.go()
  }

  abandon(): void {
    if (this.#state !== 'broken') this.#state = 'abandoned'
    this.#sent = []
    this.#wakeAll()
  }

  break(): void {
    if (this.#state === 'finished' && this.#ended) return
    this.#state = 'broken'
    this.#sent = []
    this.#wakeAll()
  }

  /** Moves on what was sent, unless the network between the two is cut. */
  go(): void {
    if (this.#moving || this.#state === 'broken' || this.#state === 'abandoned') return
    if (this.#network.isCut(this.#from, this.#to)) return
    const finished = this.#state === 'finished'
    if (this.#sent.length === 0 && !(finished && !this.#ended)) return
    this.#moving = true
    const { faults } = this.#network
    this.#time.after(this.#random.below(faults.delayMsMax + 1) + 0.05, () => {
      this.#moving = false
      if (this.#network.isCut(this.#from, this.#to)) return
      this.#deliver()
    })
  }

  #deliver(): void {
    if (this.#state === 'broken' || this.#state === 'abandoned') return
    const { faults } = this.#network
    const piece = this.#sent.shift()
    if (piece === undefined) {
      this.#ended = true
      this.#readerWakes?.()
      return
    }
    this.#sentBytes -= piece.length
    this.#wakeWriters()
    if (faults.breakOneOf > 0 && this.#random.below(faults.breakOneOf) === 0) {
      // a part of it has come through
      this.#arrived.push(piece.subarray(0, this.#random.below(piece.length + 1)))
      this.#readerWakes?.()
      this.#time.after(0, this.#breakAll)
      return
    }
    if (faults.damageOneOf > 0 && piece.length > 0 && this.#random.below(faults.damageOneOf) === 0) {
      const at = this.#random.below(piece.length)
      piece[at] = (piece[at] as number) ^ (1 << this.#random.below(8))
    }
    // pieces are cut and joined on the way
    const cut = piece.length > 1 && this.#random.below(4) === 0 ? this.#random.below(piece.length) : 0
    if (cut > 0) this.#arrived.push(piece.subarray(0, cut))
    this.#arrived.push(piece.subarray(cut))
    this.#readerWakes?.()
    this.go()
  }

  #wakeWriters(): void {
    const waiting = this.#writersWake
    this.#writersWake = []
    for (const wake of waiting) wake()
  }

  #wakeAll(): void {
    this.#wakeWriters()
    this.#readerWakes?.()
  }
}

function broken(): Error {
  return Object.assign(new Error('ECONNRESET'), { code: 'ECONNRESET' })
}

function pair(a: string, b: string): string {
  return a < b ? `${a} ${b}` : `${b} ${a}`
}

function placeOf(address: string): string {
  return address.replace(/^[a-z]+:\/\//, '')
}

/** `tcp://beta:2000` and `beta:2000` are of the host `beta`. */
function hostOf(address: string): string {
  return placeOf(address).replace(/:\d+$/, '')
}

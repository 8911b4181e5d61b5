/**
 * Byte streams within one process: for tests of what speaks over them, and for servers that are tested side by side.
 * Deterministic: nothing waits for anything but the two sides.
 */
import type { ByteStream, Listener, Transport } from '../transport.ts'
import { MemoryQueue } from './memory-queue.ts'

/** Written and not read yet; whoever writes more waits. */
const bufferBytesDefault = 256 * 1024

export interface MemoryPair {
  readonly dialled: ByteStream
  readonly accepted: ByteStream
  /** Both ends reject from now on, and what is under way is lost. */
  break(error?: Error): void
}

export interface MemoryPairOptions {
  /** As each end sees the other. */
  readonly dialledPeer?: string
  readonly acceptedPeer?: string
  readonly binding?: Buffer
  readonly dialledCertificate?: string
  readonly acceptedCertificate?: string
  readonly bufferBytes?: number
}

export function memoryStreamPair(options: MemoryPairOptions = {}): MemoryPair {
  const bufferBytes = options.bufferBytes ?? bufferBytesDefault
  const down = new MemoryPipe(bufferBytes)
  const up = new MemoryPipe(bufferBytes)
  const stream = (input: MemoryPipe, output: MemoryPipe, peer: string, certificate: string | undefined) => ({
    peer,
    ...(options.binding !== undefined && { binding: options.binding }),
    ...(certificate !== undefined && { certificate }),
    read: () => input.read(),
    write: (data: Uint8Array) => output.copy(data),
    close: () => {
      output.end()
      input.abandon()
    },
  })
  return {
    dialled: stream(down, up, options.dialledPeer ?? 'memory:accepted', options.acceptedCertificate),
    accepted: stream(up, down, options.acceptedPeer ?? 'memory:dialled', options.dialledCertificate),
    break(error = new Error('the connection was reset')) {
      down.break(error)
      up.break(error)
    },
  }
}

/** Pieces are copied: whoever wrote them may use the memory again. */
class MemoryPipe extends MemoryQueue<Buffer> {
  constructor(bufferBytes: number) {
    super({ underWayMax: bufferBytes, sizeOf: ({ length }) => length, what: 'stream' })
  }

  copy(data: Uint8Array): Promise<void> {
    return this.write(Buffer.from(data))
  }
}

/** A network of names: `memory:NAME`. */
export class MemoryTransport implements Transport {
  readonly #listeners = new Map<string, (stream: ByteStream) => void>()
  readonly #pairs = new Set<MemoryPair>()
  readonly #cut = new Set<string>()

  async connect(address: string, signal: AbortSignal): Promise<ByteStream> {
    signal.throwIfAborted()
    const accept = this.#listeners.get(address)
    if (accept === undefined || this.#cut.has(address)) throw new Error(`nobody listens at ${address}`)
    const pair = memoryStreamPair({ dialledPeer: address })
    this.#pairs.add(pair)
    accept(pair.accepted)
    return pair.dialled
  }

  async listen(address: string, onConnection: (stream: ByteStream) => void): Promise<Listener> {
    if (this.#listeners.has(address)) throw new Error(`somebody listens at ${address} already`)
    this.#listeners.set(address, onConnection)
    return {
      address,
      close: async () => {
        if (this.#listeners.get(address) === onConnection) this.#listeners.delete(address)
      },
    }
  }

  /** Breaks all connections that there are. */
  breakAll(): void {
    for (const pair of this.#pairs) pair.break()
    this.#pairs.clear()
  }

  /** Nobody can call this address until `heal`. Connections that there are stay. */
  cut(address: string): void {
    this.#cut.add(address)
  }

  heal(address: string): void {
    this.#cut.delete(address)
  }
}

/**
 * Byte streams between hosts, as narrow as the link needs them, so that a simulator can be the network.
 */
export interface ByteStream {
  /** Who is at the other end, for people: `127.0.0.1:2000`, `ssh backup@host`. */
  readonly peer: string
  /** What both ends of one encrypted connection know and nobody between them; absent where there is no such thing. */
  readonly binding?: Buffer
  /** SHA-256 of the certificate whose key the other end has proved to hold, 64 hex digits; absent where there is none. */
  readonly certificate?: string
  /** The pieces that arrive, in order, as they come; ends when the other side has closed. Rejects when it broke. Once. */
  read(): AsyncIterable<Buffer>
  /**
   * Resolves when more may be written (backpressure); rejects when it is broken. `taken` is called when the stream no longer
   * needs the data, unless it breaks before.
   */
  write(data: Uint8Array, taken?: () => void): Promise<void>
  /** Both directions are over; what was not sent yet may be lost. Idempotent. */
  close(): void
}

export interface Listener {
  /** Where it listens: the port that was really taken. */
  readonly address: string
  close(): Promise<void>
}

export interface Transport {
  /** Rejects when nobody answers; bounded in time by the signal. */
  connect(address: string, signal: AbortSignal): Promise<ByteStream>
  listen(address: string, onConnection: (stream: ByteStream) => void): Promise<Listener>
}

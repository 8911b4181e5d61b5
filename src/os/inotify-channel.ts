/**
 * An inotify descriptor that is read through the event loop: a pipe's read end becomes a socket, and then the descriptor
 * beneath it is exchanged for the inotify one. So no thread of the pool is ever blocked in a read, and nothing runs while
 * nothing happens.
 */
import { closeSync, readSync } from 'node:fs'
import { Socket } from 'node:net'
import { isSystemError } from './errors.ts'
import { duplicateOnto, inotifyInit, makePipe } from './syscalls.ts'

export interface InotifyChannel {
  /** For adding and removing watches. */
  readonly fd: number
  /** While it is held, the process stays alive for it; not so at first. */
  keepAlive(held: boolean): void
  /** Gives the events that are there already, now. */
  drain(): void
  close(): void
}

/** struct inotify_event: int wd, u32 mask, u32 cookie, u32 len, char name[len]; native byte order. */
export interface InotifyEvent {
  readonly watch: number
  readonly mask: number
  /** Latin1; empty when the watched thing itself is meant. */
  readonly name: string
}

const bufferBytes = 64 * 1024

/** `onEvents` gets the bytes of whole events, void after the call. Throws the system's error. */
export function openInotify(
  onEvents: (events: Buffer) => void,
  onFailure: (error: unknown) => void,
): InotifyChannel {
  const inotify = inotifyInit()
  try {
    const { readFd, writeFd } = makePipe()
    const onread = {
      buffer: Buffer.alloc(bufferBytes),
      callback: (length: number, buffer: Uint8Array) => {
        onEvents(Buffer.from(buffer.buffer, buffer.byteOffset, length))
        return true
      },
    }
    // the declared options leave out that a descriptor may have `onread` too (net.Socket documents it)
    const socket = new Socket({
      fd: readFd,
      readable: true,
      writable: false,
      onread,
    } as ConstructorParameters<typeof Socket>[0])
    socket.on('error', onFailure)
    duplicateOnto(inotify, readFd)
    closeSync(writeFd)
    socket.resume()
    socket.unref()
    let own: Buffer | undefined
    return {
      fd: readFd,
      keepAlive: held => void (held ? socket.ref() : socket.unref()),
      drain() {
        own ??= Buffer.alloc(bufferBytes)
        for (;;) {
          let length: number
          try {
            length = readSync(readFd, own)
          } catch (error) {
            if (isSystemError(error, 'EAGAIN')) return
            throw error
          }
          if (length === 0) return
          onEvents(own.subarray(0, length))
        }
      },
      close: () => void socket.destroy(),
    }
  } finally {
    closeSync(inotify)
  }
}

export function* inotifyEvents(events: Buffer): Generator<InotifyEvent> {
  for (let at = 0; at + 16 <= events.length; ) {
    const nameBytes = events.readUInt32LE(at + 12)
    let end = at + 16
    while (end < at + 16 + nameBytes && events[end] !== 0) end++
    yield {
      watch: events.readInt32LE(at),
      mask: events.readUInt32LE(at + 4),
      name: events.toString('latin1', at + 16, end),
    }
    at += 16 + nameBytes
  }
}

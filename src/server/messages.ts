/**
 * What whoever runs a server should know, the newest first: in `messages` and `messages.old` of the state directory, a
 * JSON line each, so that it can be read while the server is stopped.
 *
 * Bounded: a file that is full becomes the old one, and the old one goes. A crash may lose the last lines, or tear one,
 * which is then left out.
 */
import type { Clock } from '../os/clock.ts'
import { readSmallFile, type Storage, type StorageFile } from '../os/storage.ts'
import type { ServerMessage } from './server.ts'

const fileBytesMax = 512 * 1024
const textBytesMax = 4096
const inMemoryMax = 2000
const linesAtOnceMax = 32

export type Level = ServerMessage['level']

export interface MessagesOptions {
  readonly storage: Storage
  readonly clock: Clock
  readonly directory: string
  /** Called for each; must not throw. */
  onMessage(message: ServerMessage): void
}

export class Messages {
  readonly #options: MessagesOptions
  /** Oldest first. */
  readonly #kept: ServerMessage[]
  #file: StorageFile | undefined
  #size: number
  /** A crash may have torn the last line: the next one begins on its own. */
  #pending: Buffer[] = [Buffer.from('\n')]
  #writing: Promise<void> | undefined

  static async open(options: MessagesOptions): Promise<Messages> {
    const { storage, directory } = options
    const kept = await readAll(storage, directory)
    const size = (await storage.stat(paths(directory).current))?.size ?? 0
    return new Messages(options, kept, size)
  }

  private constructor(options: MessagesOptions, kept: ServerMessage[], size: number) {
    this.#options = options
    this.#kept = kept
    this.#size = size
  }

  tell(level: Level, code: string, text: string): void {
    const message: ServerMessage = {
      timeMs: Math.round(this.#options.clock.nowMs()),
      level,
      code,
      message: text.slice(0, textBytesMax),
    }
    this.#kept.push(message)
    if (this.#kept.length > inMemoryMax) this.#kept.shift()
    this.#options.onMessage(message)
    this.#pending.push(Buffer.from(`${JSON.stringify(message)}\n`))
    this.#writing ??= this.#write().finally(() => {
      this.#writing = undefined
    })
  }

  newest(count: number): readonly ServerMessage[] {
    return this.#kept.slice(-Math.max(0, count) || this.#kept.length).reverse()
  }

  async close(): Promise<void> {
    await this.#writing
    const file = this.#file
    this.#file = undefined
    await file?.sync().catch(() => undefined)
    await file?.close()
  }

  async #write(): Promise<void> {
    try {
      while (this.#pending.length > 0) {
        const bytes = Buffer.concat(this.#pending.splice(0, linesAtOnceMax))
        if (this.#size + bytes.length > fileBytesMax) await this.#turn()
        this.#file ??= await this.#options.storage.open(paths(this.#options.directory).current, 'create')
        await this.#file.write(bytes, this.#size)
        this.#size += bytes.length
      }
    } catch {
      // a full or broken disk is told by whatever else meets it; messages are still given and shown
      this.#pending = []
    }
  }

  async #turn(): Promise<void> {
    const { storage, directory } = this.#options
    const { current, old } = paths(directory)
    await this.#file?.close()
    this.#file = undefined
    if ((await storage.stat(current)) !== undefined) await storage.rename(current, old)
    this.#size = 0
  }
}

/** Also while the server is stopped. Newest first. */
export async function readMessages(
  storage: Storage,
  directory: string,
  count: number,
): Promise<readonly ServerMessage[]> {
  return (await readAll(storage, directory)).slice(-Math.max(1, count)).reverse()
}

function paths(directory: string): { readonly current: string; readonly old: string } {
  return { current: `${directory}/messages`, old: `${directory}/messages.old` }
}

async function readAll(storage: Storage, directory: string): Promise<ServerMessage[]> {
  const { current, old } = paths(directory)
  const messages: ServerMessage[] = []
  for (const path of [old, current]) {
    const bytes = await readSmallFile(storage, path, 2 * fileBytesMax)
    for (const line of bytes?.toString('utf8').split('\n') ?? []) {
      const message = parsed(line)
      if (message !== undefined) messages.push(message)
    }
  }
  return messages.slice(-inMemoryMax)
}

/** Undefined for what a crash has torn. */
function parsed(line: string): ServerMessage | undefined {
  try {
    const { timeMs, level, code, message } = JSON.parse(line) as Record<string, unknown>
    if (level !== 'info' && level !== 'warning' && level !== 'error') return undefined
    if (typeof timeMs !== 'number' || typeof code !== 'string' || typeof message !== 'string')
      return undefined
    return { timeMs, level, code, message }
  } catch {
    return undefined
  }
}

/** The names in a directory: system calls as those of tree-calls.ts. */
import { fail, functionOrSystemCall, lazy } from './libc.ts'
import { nameBuffer } from './tree-calls.ts'

const getdents64 = lazy(() =>
  functionOrSystemCall('getdents64', 'int64_t', 'int, void*, size_t', { x64: 217, arm64: 61 }),
)

/** What getdents64 says of a kind; 0: ask `statAt`. */
export const dirType = { unknown: 0, directory: 4, file: 8, symlink: 10 } as const

/**
 * The names in a directory, but '.' and '..', in the file system's order. One reader serves any number of directories,
 * one after another; what it gives of a name is void after the next step.
 */
export class DirectoryReader {
  readonly #buffer: Buffer
  #fd = -1
  #length = 0
  #next = 0
  /** Of the current name: its bytes begin here in `buffer` ... */
  nameStart = 0
  /** ... so many, and a zero follows them. */
  nameLength = 0
  type = 0

  constructor(bufferBytes = 64 * 1024) {
    this.#buffer = Buffer.allocUnsafeSlow(bufferBytes)
  }

  get buffer(): Buffer {
    return this.#buffer
  }

  /** The current name as the calls want it: always this buffer, so void after the next step. */
  readonly name = nameBuffer()

  /** The descriptor has to be fresh: reading goes on where it stands. It stays the caller's to close. */
  start(fd: number): void {
    this.#fd = fd
    this.#length = 0
    this.#next = 0
  }

  /** False at the end. */
  step(): boolean {
    const buffer = this.#buffer
    for (;;) {
      if (this.#next >= this.#length) {
        const length = Number(getdents64()(this.#fd, buffer, buffer.length))
        if (length < 0) fail('getdents64')
        if (length === 0) return false
        this.#length = length
        this.#next = 0
      }
      // struct linux_dirent64: u64 ino, s64 off, u16 reclen, u8 type, char name[]
      const at = this.#next
      const end = at + (buffer[at + 16] as number) + (buffer[at + 17] as number) * 256
      this.#next = end
      this.type = buffer[at + 18] as number
      const start = at + 19
      const name = this.name
      let length = 0
      for (let byte = buffer[start] as number; byte !== 0; byte = buffer[start + length] as number)
        name[length++] = byte
      name[length] = 0
      const isDot = buffer[start] === 0x2e && (length === 1 || (length === 2 && buffer[start + 1] === 0x2e))
      if (isDot) continue
      this.nameStart = start
      this.nameLength = length
      return true
    }
  }
}

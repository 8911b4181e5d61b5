/**
 * A sink for the tests of the source: applies entries to a directory at once, keeps its position in memory, and refuses
 * what the order of packs forbids. What follows the last commit stays, as on a copy after a crash.
 */
import assert from 'node:assert/strict'
import * as fs from 'node:fs'
import { join } from 'node:path'
import { blake3 } from '@napi-rs/blake-hash'
import { type Entry, type EntryPath, entryPath, type Position } from '../../../stream/entry.ts'
import type { Inventory, InventoryFile, Sink } from '../../../stream/sink.ts'

const blockBytes = 1024 * 1024

export interface DirectorySinkOptions {
  /** Called after each entry. */
  afterEntry?(entry: Entry, root: string): void
}

export class DirectorySink implements Sink {
  readonly root: string
  readonly commits: Extract<Entry, { type: 'commit' }>[] = []
  readonly entries: Entry[] = []
  readonly #options: DirectorySinkOptions
  readonly #replacing = new Map<string, Buffer[]>()
  /** Sizes at the last commit or change of names, before which a copy records what it has. */
  #recordedSizes = new Map<string, number>()
  #position: Position | undefined

  constructor(root: string, options: DirectorySinkOptions = {}) {
    this.root = root
    this.#options = options
    fs.mkdirSync(root, { recursive: true })
  }

  async position(): Promise<Position | undefined> {
    return this.#position
  }

  /** As a replica that is opened with `resync`: no position, and an inventory of what is there. */
  forgetPosition(): void {
    this.#position = undefined
    this.#record()
  }

  #record(): void {
    this.#recordedSizes = new Map(this.#files().map(name => [name, fs.statSync(join(this.root, name)).size]))
  }

  async write(entry: Entry): Promise<void> {
    this.entries.push(entry.type === 'write' ? { ...entry, data: entry.data.subarray(0, 0) } : entry)
    if (entry.type === 'commit') {
      assert.equal(this.#replacing.size, 0, 'a commit in the middle of a replaced file')
      this.#position = entry.position
      this.commits.push(entry)
      this.#record()
    } else {
      const path = join(this.root, entry.path)
      const changesNames = entry.type !== 'replace' && (entry.type !== 'write' || !this.#has(entry.path))
      if (changesNames) this.#record()
      switch (entry.type) {
        case 'write': {
          const replacing = this.#replacing.get(entry.path)
          if (replacing !== undefined) {
            replacing.push(Buffer.from(entry.data))
            break
          }
          const fd = fs.openSync(path, fs.constants.O_RDWR | fs.constants.O_CREAT)
          assert.ok(fs.fstatSync(fd).size >= entry.offset, 'a write beyond the end leaves a hole')
          fs.writeSync(fd, entry.data, 0, entry.data.length, entry.offset)
          fs.closeSync(fd)
          break
        }
        case 'replace':
          this.#replacing.set(entry.path, [])
          break
        case 'replaced':
          fs.writeFileSync(path, Buffer.concat(this.#replacing.get(entry.path)!))
          this.#replacing.delete(entry.path)
          break
        case 'remove':
          fs.rmSync(path, { recursive: true, force: true })
          break
        case 'rename':
          fs.renameSync(path, join(this.root, entry.to))
          break
        case 'truncate':
          fs.truncateSync(path, entry.size)
          break
        case 'node':
          assert.equal(entry.node.kind, 'directory')
          fs.mkdirSync(path, { recursive: true })
          break
        default:
          assert.fail(`unexpected entry ${entry.type}`)
      }
      if (changesNames) this.#record()
    }
    this.#options.afterEntry?.(entry, this.root)
  }

  #has(path: EntryPath): boolean {
    return this.#replacing.has(path) || fs.existsSync(join(this.root, path))
  }

  /** As after a crash: a new version that has not taken its name is lost, and so is a copy without any commit. */
  crash(): void {
    this.#replacing.clear()
    if (this.#position === undefined) for (const name of this.#files()) fs.unlinkSync(join(this.root, name))
  }

  async sync(): Promise<void> {}
  async close(): Promise<void> {}

  async inventory(): Promise<Inventory | undefined> {
    const file = (name: string): InventoryFile => ({
      path: entryPath(name),
      size: this.#recordedSizes.get(name)!,
      blockBytes,
      digest: 'blake3-256',
      digests: async (firstBlock, count) => {
        const data = fs.readFileSync(join(this.root, name)).subarray(0, this.#recordedSizes.get(name))
        const blocks = Array.from({ length: count }, (_, i) =>
          blake3(data.subarray((firstBlock + i) * blockBytes, (firstBlock + i + 1) * blockBytes)),
        )
        return Buffer.concat(blocks)
      },
    })
    const there = new Set(this.#files())
    const names = [...this.#recordedSizes.keys()].filter(name => there.has(name)).sort()
    return {
      async *files() {
        for (const name of names) yield file(name)
      },
      file: async (path: EntryPath) => (names.includes(path) ? file(path) : undefined),
    }
  }

  #files(): string[] {
    return fs
      .readdirSync(this.root, { recursive: true, withFileTypes: true, encoding: 'latin1' })
      .filter(entry => entry.isFile())
      .map(entry => join(entry.parentPath, entry.name).slice(this.root.length + 1))
  }
}

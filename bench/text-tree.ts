/** The tree of the directory benchmarks: many small text files, the same each time, as no two trees of users are. */
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

const filesPerDirectory = 100
const bytesMean = 3_000
const words = 4_000

export class TextTree {
  readonly path: string
  readonly files: number
  readonly #text: TextSource

  /** Makes it. */
  constructor(path: string, files: number) {
    this.path = path
    this.files = files
    this.#text = new TextSource()
    for (let file = 0; file < files; file++) {
      if (file % filesPerDirectory === 0) mkdirSync(join(path, directoryOf(file)), { recursive: true })
      writeFileSync(join(path, nameOf(file)), this.#text.next())
    }
  }

  /** Gives so many files, spread over the tree, other content, below `root` (the tree itself unless told otherwise). */
  change(count: number, root = this.path): void {
    for (let i = 0; i < count; i++) {
      const file = Math.floor((i * this.files) / count)
      mkdirSync(join(root, directoryOf(file)), { recursive: true })
      writeFileSync(join(root, nameOf(file)), this.#text.next())
    }
  }
}

function directoryOf(file: number): string {
  return `d${String(Math.floor(file / filesPerDirectory)).padStart(4, '0')}`
}

function nameOf(file: number): string {
  return `${directoryOf(file)}/page-${String(file % filesPerDirectory).padStart(3, '0')}.txt`
}

/** Text that compresses about as prose does: some words are much more frequent than others. */
class TextSource {
  #state = 1
  readonly #words = Array.from({ length: words }, () => this.#word())

  next(): string {
    const bytes = Math.floor(this.#random() * 2 * bytesMean)
    const parts: string[] = []
    for (let length = 0; length < bytes; ) {
      const word = this.#words[Math.floor(this.#random() ** 3 * words)] ?? ''
      parts.push(word)
      length += word.length + 1
    }
    return parts.join(' ').slice(0, bytes)
  }

  #word(): string {
    const length = 2 + Math.floor(this.#random() * 8)
    return Array.from({ length }, () => String.fromCharCode(97 + Math.floor(this.#random() * 26))).join('')
  }

  /** A linear congruential generator (Numerical Recipes): between 0 and 1, the same on every machine. */
  #random(): number {
    this.#state = (Math.imul(this.#state, 1_664_525) + 1_013_904_223) >>> 0
    return this.#state / 2 ** 32
  }
}

/** The one file of a copy that is kept open while its changes come one after another. */
import type { CopyFiles } from './copy-files.ts'
import type { FileNode } from './copy-node.ts'

export class OpenFile {
  readonly #files: CopyFiles
  #node: FileNode | undefined
  #fd = -1

  constructor(files: CopyFiles) {
    this.#files = files
  }

  is(node: FileNode): boolean {
    return this.#node === node
  }

  /** Its descriptor, opened when another file was open before. */
  of(node: FileNode, open: () => number): number {
    if (this.#node !== node) this.keep(node, open)
    return this.#fd
  }

  /** What was open before is closed first. */
  keep(node: FileNode, open: () => number): void {
    this.close()
    this.#fd = open()
    this.#node = node
  }

  close(): void {
    if (this.#node !== undefined) this.#files.calls.closeFd(this.#fd)
    this.#node = undefined
  }
}

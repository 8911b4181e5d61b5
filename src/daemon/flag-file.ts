import { HotspareError, isSystemError } from '../os/errors.ts'
import { commandText } from '../os/run-command.ts'
import { parentDirectory, readSmallFile, type Storage } from '../os/storage.ts'
import { type ModeSwitch, reasonOf } from './mode-switch.ts'

/**
 * The mode is on while the file exists. It is made only when there is none, and removed only when it holds our text,
 * so that a file which somebody else made is neither written to nor taken away.
 */
export class FlagFile implements ModeSwitch {
  readonly #path: string
  readonly #text: Buffer
  readonly #storage: Storage
  readonly refresh = undefined
  readonly leaveByHand: string

  constructor(path: string, text: string, storage: Storage) {
    this.#path = path
    this.#text = Buffer.from(text.endsWith('\n') ? text : `${text}\n`)
    this.#storage = storage
    this.leaveByHand = commandText({ run: ['rm', '-f', path] })
  }

  readonly verify = async (): Promise<boolean> => {
    try {
      return (await this.#storage.stat(this.#path)) !== undefined
    } catch (error) {
      throw new HotspareError('mode-unknown', `Looking for ${this.#path}: ${reasonOf(error)}.`, {
        cause: error,
      })
    }
  }

  async enter(): Promise<'ours' | 'theirs'> {
    try {
      const file = await this.#storage.open(this.#path, 'create-new', 0o644)
      try {
        await file.write(this.#text, 0)
      } finally {
        await file.close()
      }
      // readable by the web server, whoever that is and whatever our umask
      await this.#storage.setAttributes(this.#path, { mode: 0o644 })
      return 'ours'
    } catch (error) {
      if (isSystemError(error, 'EEXIST')) return 'theirs'
      throw new HotspareError('enter-failed', `Making ${this.#path}: ${reasonOf(error)}.`, { cause: error })
    }
  }

  async leave(): Promise<void> {
    try {
      if (!(await this.#isOurs())) return
      await this.#storage.remove(this.#path)
      // a power loss must not bring it back when nothing knows of it any more
      await this.#storage.syncDirectory(parentDirectory(this.#path))
    } catch (error) {
      throw new HotspareError('leave-failed', `Removing ${this.#path}: ${reasonOf(error)}.`, { cause: error })
    }
  }

  /** All of our text, or a beginning of it: enter may have been cut short. */
  async #isOurs(): Promise<boolean> {
    const stat = await this.#storage.stat(this.#path)
    if (stat === undefined || stat.size > this.#text.length) return false
    const found = await readSmallFile(this.#storage, this.#path, this.#text.length)
    return found !== undefined && this.#text.subarray(0, found.length).equals(found)
  }
}

/**
 * Reads packs again and compares them, block by block, with what the sink recorded when it received them: a pack that
 * was sent over a time may have been changed behind. In small pieces, so that following goes on in between.
 */
import type { ReadOptions } from '../../stream/source.ts'
import { blockCount, firstDifference, isComparable } from './digest-blocks.ts'
import { changedInside } from './faults.ts'
import type { Pack } from './pack.ts'
import type { PackSet } from './pack-set.ts'

const bytesAtOnce = 2 * 1024 * 1024

export class Verification {
  readonly #root: string
  readonly #packs: PackSet
  #current: { readonly pack: Pack; block: number } | undefined

  constructor(root: string, packs: PackSet) {
    this.#root = root
    this.#packs = packs
  }

  /** Something is left to be compared. */
  get isDue(): boolean {
    return this.#next() !== undefined
  }

  /** A pack that is not finished yet, because something about it is suspect. */
  request(pack: Pack): void {
    this.#current ??= { pack, block: 0 }
  }

  forget(pack?: Pack): void {
    if (pack === undefined || this.#current?.pack === pack) this.#current = undefined
  }

  /** Compares one piece, or all that is due. Throws `source-changed` naming the pack and the block's offset. */
  async compare(options: ReadOptions, amount: 'piece' | 'all'): Promise<void> {
    for (let next = this.#next(); next !== undefined; next = this.#next()) {
      if (options.signal.aborted) return
      await this.#comparePiece(next, options)
      if (amount === 'piece') return
    }
  }

  #next(): { readonly pack: Pack; block: number } | undefined {
    if (this.#current === undefined) {
      const pack = this.#packs.all().find(one => one.finished && one.followed && !one.removed)
      if (pack !== undefined) this.#current = { pack, block: 0 }
    }
    return this.#current
  }

  async #comparePiece(current: { readonly pack: Pack; block: number }, options: ReadOptions): Promise<void> {
    const { pack } = current
    const isHeld = await pack.hold()
    const recorded = isHeld ? await (await options.inventory('verification'))?.file(pack.path) : undefined
    const blocks = recorded === undefined || !isComparable(recorded) ? 0 : blockCount(recorded)
    if (recorded !== undefined && current.block < blocks) {
      const count = Math.min(blocks - current.block, Math.ceil(bytesAtOnce / recorded.blockBytes))
      const at = await firstDifference(await pack.file(), recorded, { first: current.block, count })
      if (at !== undefined) throw changedInside(this.#root, pack, at)
      current.block += count
    }
    // a pack that is gone is gone from the copy soon, and a sink without digests can't be compared with
    if (current.block < blocks) return
    this.#current = undefined
    pack.followed = false
    if (pack.finished && !pack.vanished) await pack.release()
  }
}

/**
 * A pack that was modified without having grown: its last bytes are compared at once with what was sent, and all of it is
 * read again when no growth follows, which would explain the modification.
 */
import type { Clock } from '../../os/clock.ts'
import { changedInside } from './faults.ts'
import type { Ledger } from './ledger.ts'
import type { Pack } from './pack.ts'
import type { Verification } from './verification.ts'

/** A modification without growth that lasts so long makes the pack be read again. */
const suspicionMs = 1000

export class Suspicion {
  readonly #clock: Clock
  readonly #root: string
  readonly #ledger: Ledger
  readonly #verification: Verification

  constructor(
    { clock, root }: { readonly clock: Clock; readonly root: string },
    ledger: Ledger,
    verification: Verification,
  ) {
    this.#clock = clock
    this.#root = root
    this.#ledger = ledger
    this.#verification = verification
  }

  /** The pack has grown. */
  clear(pack: Pack): void {
    pack.suspectSinceMs = undefined
  }

  /** The pack has not grown since it was looked at last. `source-changed` when its tail is not what was sent. */
  async look(pack: Pack, isModified: boolean): Promise<void> {
    if (pack.sent === 0 || !pack.created) return
    const nowMs = this.#clock.nowMs()
    if (pack.suspectSinceMs !== undefined && nowMs - pack.suspectSinceMs >= suspicionMs) {
      pack.suspectSinceMs = undefined
      this.#verification.request(pack)
    }
    if (!isModified) return
    pack.suspectSinceMs ??= nowMs
    const at = await this.#ledger.compareTail(pack)
    if (at !== undefined) throw changedInside(this.#root, pack, at)
  }

  /** Milliseconds until the pack is to be looked at again. */
  dueInMs(pack: Pack | undefined): number {
    if (pack?.suspectSinceMs === undefined) return Number.POSITIVE_INFINITY
    return Math.max(0, pack.suspectSinceMs + suspicionMs - this.#clock.nowMs())
  }
}

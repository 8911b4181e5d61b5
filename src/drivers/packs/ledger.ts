/**
 * What was given to the sink and what of it is committed: keeps the last bytes of the pack that is being sent, and makes
 * the commits whose positions name them.
 */
import type { Clock } from '../../os/clock.ts'
import type { Commit, Position, StoreName } from '../../stream/entry.ts'
import { truncated } from './faults.ts'
import type { Pack } from './pack.ts'
import { encodePosition, type PacksPosition, tailDigest } from './position.ts'
import type { Profile } from './profile.ts'
import { TailWindow } from './tail-window.ts'

/** A long drain is cut into commits of about so many bytes. */
const commitBytesMax = 64 * 1024 * 1024

export class Ledger {
  readonly #clock: Clock
  readonly #store: StoreName
  readonly #root: string
  readonly #profile: Profile
  readonly #tail = new TailWindow()
  /** The pack that was last sent from; the tail window is its. */
  #current: Pack | undefined
  #committed: Position | undefined
  #commits = 0
  #consistent = false
  #isOpen = false
  #uncommittedBytes = 0

  constructor(options: { clock: Clock; store: StoreName; root: string; profile: Profile }) {
    this.#clock = options.clock
    this.#store = options.store
    this.#root = options.root
    this.#profile = options.profile
  }

  /** The last commit that was given. */
  get committed(): Position | undefined {
    return this.#committed
  }

  get commits(): number {
    return this.#commits
  }

  /** The last commit opens as a valid store, and so does what follows it. */
  get isConsistent(): boolean {
    return this.#consistent
  }

  /** Something was given after the last commit. */
  get isOpen(): boolean {
    return this.#isOpen
  }

  get isCommitDue(): boolean {
    return this.#uncommittedBytes >= commitBytesMax
  }

  /** Begins anew: with nothing, or after a commit of an earlier run. */
  restart(after?: { readonly committed: Position; readonly position: PacksPosition }): void {
    this.#current = undefined
    this.#committed = after?.committed
    this.#commits = after?.position.commit ?? 0
    this.#consistent = after?.position.consistent ?? false
    this.#isOpen = false
    this.#uncommittedBytes = 0
  }

  /** A change is about to be given. */
  open(): void {
    this.#isOpen = true
  }

  /** From here to the next consistent commit, a stop leaves what does not open as a valid store. */
  leaveConsistency(): void {
    this.#consistent = false
  }

  async makeCurrent(pack: Pack): Promise<void> {
    if (this.#current === pack) return
    if (!(await this.#tail.load(await pack.file(), pack.sent))) throw truncated(this.#root, pack, pack.sent)
    this.#current = pack
  }

  /** The pack's end was cut off: `pack.sent` says where. */
  async cut(pack: Pack): Promise<void> {
    this.#current = undefined
    await this.makeCurrent(pack)
    this.#isOpen = true
  }

  /** The current pack's next bytes are about to be given. */
  append(pack: Pack, data: Buffer): void {
    this.#tail.push(data)
    pack.sent += data.length
    this.#uncommittedBytes += data.length
    this.#isOpen = true
  }

  /** Reads the pack's last sent bytes again; the offset of the first that differs. */
  async compareTail(pack: Pack): Promise<number | undefined> {
    await this.makeCurrent(pack)
    const now = new TailWindow()
    await now.load(await pack.file(), pack.sent)
    const sent = this.#tail.bytes
    if (now.bytes.equals(sent)) return undefined
    const at = now.bytes.findIndex((byte, index) => byte !== sent[index])
    return pack.sent - sent.length + Math.max(0, at)
  }

  commit(consistent: boolean): Commit {
    this.#commits++
    const current = this.#current
    const position = encodePosition({
      profile: this.#profile.name,
      pattern: this.#profile.pattern,
      commit: this.#commits,
      consistent,
      newest:
        current === undefined
          ? undefined
          : { path: current.path, offset: current.sent, tailDigest: tailDigest(this.#tail.bytes) },
    })
    this.#committed = position
    this.#consistent = consistent
    this.#isOpen = false
    this.#uncommittedBytes = 0
    return { type: 'commit', store: this.#store, position, consistent, timeMs: this.#clock.nowMs() }
  }
}

/** Shared memory that scanning threads read into, and that the sink gives back when it has no more use for it. */

export const arenaBytes = 2 * 1024 * 1024
/** More than are ever under way: memory that is made anew costs more than the reading. */
const freeMax = 16

export class Arena {
  readonly memory: SharedArrayBuffer
  readonly bytes: Buffer
  readonly #pool: ArenaPool
  #uses = 0
  #open = true
  /** One of the views that were given out is not used any more. The same function for all, to cost nothing a file. */
  readonly giveBack = (): void => {
    this.#uses--
    this.#freeWhenUnused()
  }

  constructor(pool: ArenaPool, bytes: number) {
    this.#pool = pool
    this.memory = new SharedArrayBuffer(bytes)
    this.bytes = Buffer.from(this.memory)
  }

  /** A view for an entry; `giveBack` is called at most once for each. */
  view(start: number, length: number): Buffer {
    this.#uses++
    return this.bytes.subarray(start, start + length)
  }

  /** No more views will be given out. */
  done(): void {
    this.#open = false
    this.#freeWhenUnused()
  }

  reopen(): this {
    this.#open = true
    this.#uses = 0
    return this
  }

  #freeWhenUnused(): void {
    if (!this.#open && this.#uses === 0) this.#pool.give(this)
  }
}

export class ArenaPool {
  readonly #free: Arena[] = []

  take(): Arena {
    return this.#free.pop()?.reopen() ?? new Arena(this, arenaBytes)
  }

  give(arena: Arena): void {
    if (this.#free.length < freeMax) this.#free.push(arena)
  }
}

/**
 * Memory for changes on their way to the sink: slabs, each used again when all that was taken of it has been given
 * back. So at full load almost nothing is left to the garbage collector, which would come to it tens of megabytes later.
 *
 * What a sink never gives back is the collector's, together with its slab.
 */

const slabBytes = 256 * 1024
const freeSlabsMax = 16

interface Slab {
  readonly bytes: Buffer
  used: number
  /** Parts that were taken and not given back. */
  out: number
}

export interface ChangeBytes {
  readonly data: Buffer
  /** The data must not be used afterwards. */
  readonly recycle?: () => void
}

export class ChangeMemory {
  #slab = newSlab()
  readonly #free: Slab[] = []

  /** Of unknown content. */
  take(bytes: number): ChangeBytes {
    if (bytes > slabBytes) return { data: Buffer.allocUnsafeSlow(bytes) }
    if (this.#slab.used + bytes > slabBytes) this.#slab = this.#free.pop() ?? newSlab()
    const slab = this.#slab
    const data = slab.bytes.subarray(slab.used, slab.used + bytes)
    slab.used += bytes
    slab.out++
    let given = false
    const recycle = () => {
      if (given) return
      given = true
      this.#give(slab)
    }
    return { data, recycle }
  }

  #give(slab: Slab): void {
    if (--slab.out > 0) return
    slab.used = 0
    if (slab !== this.#slab && this.#free.length < freeSlabsMax) this.#free.push(slab)
  }
}

function newSlab(): Slab {
  return { bytes: Buffer.allocUnsafeSlow(slabBytes), used: 0, out: 0 }
}

/**
 * A few places for callers whom nobody knows yet. When all are taken, the network that holds the most gives up its oldest
 * to one that holds fewer: so a stranger, however often it calls, keeps out nobody but itself.
 */
export class CallerPlaces {
  readonly #max: number
  /** By network, the oldest first: each is called when it has to give way. */
  readonly #held = new Map<string, Set<() => void>>()
  #count = 0

  constructor(max: number) {
    this.#max = max
  }

  /**
   * Undefined: there is no place. Else what gives it back (idempotent). `giveWay` is called, once at most, when another
   * gets the place: it is given back then. `from` is an address as people read it, with a port or without.
   */
  take(from: string, giveWay: () => void): (() => void) | undefined {
    const network = networkOf(from)
    if (this.#count >= this.#max && !this.#makeRoom(network)) return undefined
    const held = this.#held.get(network) ?? new Set()
    // the same function may be given twice
    const place = () => giveWay()
    this.#held.set(network, held.add(place))
    this.#count++
    return () => this.#leave(network, place)
  }

  #makeRoom(network: string): boolean {
    const [most] = [...this.#held].sort(([, a], [, b]) => b.size - a.size)
    if (most === undefined) return false
    const [giving, held] = most
    // with one more it would hold as much itself
    if (held.size <= (this.#held.get(network)?.size ?? 0) + 1) return false
    const [oldest] = held
    if (oldest === undefined) return false
    this.#leave(giving, oldest)
    oldest()
    return true
  }

  #leave(network: string, place: () => void): void {
    const held = this.#held.get(network)
    if (held?.delete(place) !== true) return
    this.#count--
    if (held.size === 0) this.#held.delete(network)
  }
}

/** An IPv4 address; the first 64 bits of an IPv6 one, since who has one has them all; else what it is, without a port. */
export function networkOf(address: string): string {
  const host = /^\[(.*)\](?::\d+)?$/.exec(address)?.[1] ?? address.replace(/:\d+$/, '')
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(host)
  if (mapped?.[1] !== undefined) return mapped[1]
  const plain = host.replace(/%.*$/, '')
  if (!/^[\da-f]*:[\da-f:]+$/i.test(plain)) return host
  const [head = '', tail = ''] = plain.split('::')
  const groups = (part: string) => part.split(':').filter(group => group !== '')
  const [before, after] = [groups(head), groups(tail)]
  const zeros = plain.includes('::') ? 8 - before.length - after.length : 0
  const all = [...before, ...Array<string>(Math.max(0, zeros)).fill('0'), ...after]
  return all
    .slice(0, 4)
    .map(group => Number.parseInt(group, 16).toString(16))
    .join(':')
}

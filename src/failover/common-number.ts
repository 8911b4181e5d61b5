/** Where two logs part: the last transaction that both have had. */
import type { Chain } from '../stream/log-piece.ts'

/** What is known of a log: the chain after each number from `first - 1` to `next - 1`. */
export interface LogView {
  readonly first: number
  readonly next: number
  chainAfter(number: number): Promise<Chain | undefined>
}

/**
 * The greatest number after which both logs have the same chain; undefined when they have no such number in what they
 * still know. A chain covers all before it, so halving finds it: as many questions as the numbers have bits.
 */
export async function commonNumber(own: LogView, other: LogView): Promise<number | undefined> {
  const same = async (number: number) => {
    const [ours, theirs] = [await own.chainAfter(number), await other.chainAfter(number)]
    return ours !== undefined && ours === theirs
  }
  let least = Math.max(own.first, other.first) - 1
  let most = Math.min(own.next, other.next) - 1
  if (least > most) return undefined
  if (await same(most)) return most
  if (!(await same(least))) return undefined
  while (most - least > 1) {
    const middle = Math.floor((least + most) / 2)
    if (await same(middle)) least = middle
    else most = middle
  }
  return least
}

import type { Random } from '../../../os/random.ts'
import { Random as Seeded } from '../../../os/testing/random.ts'

/** What a machine calls chance, from a seed. */
export function testRandom(seed: number): Random {
  const seeded = new Seeded(seed)
  return { fraction: () => seeded.below(2 ** 32) / 2 ** 32, bytes: count => seeded.bytes(count) }
}

/**
 * What happens in a world, and how often. Each world draws its own weights: one is all crashes, in another links are cut and
 * roles change, and a third has full disks and copies that rest. What needs many of one kind is met sooner so than where
 * all worlds have a little of everything.
 */
import type { Random } from '../../src/os/testing/random.ts'

const weights = {
  write: [8, 20],
  crash: [1, 3, 6],
  start: [3, 6],
  cut: [0, 1, 3],
  heal: [1, 2],
  network: [0, 1, 3],
  disk: [0, 1, 4],
  switch: [0, 1, 5],
  wait: [2, 5],
  promote: [0, 1, 3],
  rejoin: [0, 1, 3],
  pause: [1, 2],
} as const

export type Act = keyof typeof weights
const kinds = Object.keys(weights) as Act[]

export class Acts {
  readonly #weights: readonly { readonly act: Act; readonly weight: number }[]
  readonly #sum: number

  constructor(random: Random) {
    this.#weights = kinds.map(act => ({ act, weight: random.pick<number>(weights[act]) }))
    this.#sum = this.#weights.reduce((sum, { weight }) => sum + weight, 0)
  }

  pick(random: Random): Act {
    let rest = random.below(this.#sum)
    for (const { act, weight } of this.#weights) {
      if (rest < weight) return act
      rest -= weight
    }
    return 'pause'
  }
}

import { randomBytes } from 'node:crypto'

/** Chance, passed in, so that a simulator can own it. */
export interface Random {
  /** At least 0, below 1. */
  fraction(): number
  bytes(count: number): Buffer
}

export const systemRandom: Random = {
  fraction: Math.random,
  bytes: count => randomBytes(count),
}

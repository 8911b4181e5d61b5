/** Transactions without an end, the same each time, in place and by name: what the n-th does depends on n alone. */
import { Random } from '../../os/testing/random.ts'
import { type PlainChange, type Transaction, truncate, write } from './copy-model.ts'
import { type Choice, ScriptMaker } from './random-script.ts'

/** All transactions up to number `count`. */
export function endlessScript(count: number): Transaction[] {
  const maker = new ScriptMaker(new Random(99))
  return Array.from({ length: count }, (_, i) => {
    const random = new Random(i + 1)
    const choices: Choice[] = Array.from({ length: 1 + random.below(5) }, () => ({
      kind: random.below(16),
      path: random.below(8),
      other: random.below(8),
      offset: random.below(20_000),
      size: random.below(30_000),
    }))
    const changes: PlainChange[] = maker.changes(choices)
    // every transaction says its number, so that a copy cannot pass for another
    const label = Buffer.from(`transaction ${i + 1}`)
    return {
      consistent: true,
      changes: [...changes, write('number', 0, label), truncate('number', label.length)],
    }
  })
}

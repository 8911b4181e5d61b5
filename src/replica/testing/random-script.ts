/** Turns arbitrary numbers into transactions that a source could send. */
import { Random } from '../../os/testing/random.ts'
import {
  change,
  directory,
  hardlink,
  ModelCopy,
  type PlainChange,
  rename,
  symlink,
  type Transaction,
  truncate,
  write,
} from './copy-model.ts'

export interface Choice {
  readonly kind: number
  readonly path: number
  readonly other: number
  readonly offset: number
  readonly size: number
}

const paths = ['a', 'b', 'c', 'd/x', 'd/y', 'e', 'd/e/z', 'f-g']

/** What the choice means for the copy as it is; undefined when no source would send that. */
function changeFor(copy: ModelCopy, choice: Choice, random: Random): PlainChange[] {
  const path = paths[choice.path] as string
  const other = paths[choice.other] as string
  const kind = copy.kindOf(path)
  if (!copy.canHold(path)) return []
  const size = copy.sizeOf(path)
  switch (choice.kind) {
    case 0:
    case 1:
    case 2:
    case 3:
    case 4:
      // what most sources send: bytes at the end
      if (kind !== undefined && kind !== 'file') return []
      return [write(path, size, random.bytes(choice.size))]
    case 5:
      if (kind !== undefined && kind !== 'file') return []
      return [write(path, choice.offset, random.bytes(choice.size))]
    case 6:
      if (kind !== undefined && kind !== 'file') return []
      return [truncate(path, choice.offset)]
    case 7:
      return [change('remove', path)]
    case 8:
      return [change('remove', choice.offset % 2 === 0 ? 'd' : path)]
    case 9:
    case 10:
      return [
        change('replace', path),
        write(path, 0, random.bytes(choice.size)),
        write(path, choice.offset % (choice.size + 1), random.bytes(choice.size)),
        change('replaced', path),
      ]
    case 11:
      if (kind === undefined || path === other || !copy.canHold(other)) return []
      return [rename(path, other)]
    case 12:
      if (copy.kindOf('d') !== 'directory' || !copy.canHold('h')) return []
      return [rename('d', 'h')]
    case 13:
      return [symlink(path, other)]
    case 14:
      if (kind !== 'file' || path === other || !copy.canHold(other)) return []
      return [hardlink(other, path)]
    default:
      return [directory(path)]
  }
}

/** Keeps the copy that the changes lead to, so that the next make sense. */
export class ScriptMaker {
  readonly #copy = new ModelCopy()
  readonly #random: Random

  constructor(random: Random) {
    this.#random = random
  }

  changes(choices: readonly Choice[]): PlainChange[] {
    const sent: PlainChange[] = []
    for (const choice of choices) {
      for (const one of changeFor(this.#copy, choice, this.#random)) {
        sent.push(one)
        for (const part of this.#copy.parts(one)) this.#copy.apply(part)
      }
    }
    return sent
  }
}

export function transactionsFrom(
  choices: readonly { readonly consistent: boolean; readonly changes: readonly Choice[] }[],
): Transaction[] {
  const maker = new ScriptMaker(new Random(choices.length))
  return choices.map(({ consistent, changes }, i) => ({
    changes: maker.changes(changes),
    consistent: consistent || i === choices.length - 1,
  }))
}

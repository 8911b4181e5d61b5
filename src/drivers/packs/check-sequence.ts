/** Proves that no pack is missing between the lowest and the newest. */
import { displayPath } from '../../stream/entry.ts'
import { type Finding, proved, refuted, some } from './finding.ts'
import type { Layout, Profile } from './profile.ts'

export function checkSequence(profile: Profile, layout: Layout): Finding[] {
  const { packs } = layout
  if (packs.length === 0) return [proved('the copy holds no packs')]
  if (profile.sequenceNumber === undefined) return [proved(`${packs.length} packs in ascending order`)]
  const numbers = packs.map(name => profile.sequenceNumber?.(name))
  const unnumbered = packs.filter((_, index) => numbers[index] === undefined)
  if (unnumbered.length > 0) {
    return [refuted(`packs without a number in their names: ${some(unnumbered.map(displayPath))}`)]
  }
  const missing: string[] = []
  for (const [index, number] of numbers.entries()) {
    const before = index === 0 ? layout.coveredTo : numbers[index - 1]
    if (before === undefined || number! <= before + 1) continue
    missing.push(before + 1 === number! - 1 ? `${before + 1}` : `${before + 1} to ${number! - 1}`)
  }
  if (missing.length > 0) return [refuted(`packs are missing: number ${some(missing)}`)]
  return [
    proved(
      `${packs.length} packs without a gap, from ${displayPath(packs[0]!)} to ${displayPath(packs.at(-1)!)}`,
    ),
  ]
}

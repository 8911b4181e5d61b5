/**
 * Raima-like databases: `NAME.rdm/` holds `*.pack` files, numbered in ascending order without gaps. Only the newest
 * grows; a vacuumed pack is deleted only when it has the lowest number; the engine drops an incomplete last
 * transaction when it opens. Other files (an index that can be made anew) are copied whole when they change.
 */
import { compareBytes, type DirectoryView, fileNames, otherNames, type Profile } from './profile.ts'
import { profileSummaries } from './profile-summaries.ts'

const packName = /^(.*?)(\d{1,15})\.pack$/s

function sequenceNumber(name: string): number | undefined {
  const match = packName.exec(name)
  return match === null ? undefined : Number(match[2])
}

function compare(a: string, b: string): number {
  const x = packName.exec(a)
  const y = packName.exec(b)
  if (x === null || y === null || x[1] !== y[1]) return compareBytes(a, b)
  return Number(x[2]) - Number(y[2]) || compareBytes(a, b)
}

export const rdmProfile: Profile = {
  name: 'rdm',
  summary: profileSummaries.rdm,
  vanished: 'finish',
  tailMayShrink: false,
  sequenceNumber,
  compare,
  async layout(view) {
    const names = fileNames(view)
    return {
      packs: names.filter(name => name.endsWith('.pack')).sort(compare),
      wholes: names.filter(name => !name.endsWith('.pack')).map(name => ({ name })),
      trees: [],
      leftOut: otherNames(view),
    }
  },
  async detect(path: string, view: DirectoryView) {
    const packs = fileNames(view).filter(name => name.endsWith('.pack'))
    if (packs.length === 0) return undefined
    return {
      confidence: path.endsWith('.rdm') ? 0.95 : 0.6,
      profile: 'rdm',
      reason: `a directory of pack files (${packs.length}, the first is ${packs[0]})`,
    }
  },
}

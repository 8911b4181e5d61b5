/**
 * The write-ahead log of Prometheus (`wal/`): segments `00000000`, `00000001` ... without gaps, of which only the last
 * grows. `checkpoint.N` stands for all segments up to N: it appears complete by a rename, after which those segments
 * and older checkpoints are deleted from the low end. On the copy it appears the same way.
 */
import type { DirectoryView, Profile } from './profile.ts'
import { compareBytes, fileNames, otherNames } from './profile.ts'
import { profileSummaries } from './profile-summaries.ts'
import { checkPage, pageBytes } from './prometheus-page.ts'

const segmentName = /^\d{8,}$/
const checkpointName = /^checkpoint\.(\d+)$/

function checkpoints(view: DirectoryView): { name: string; number: number }[] {
  return [...view.entries]
    .filter(([name, stat]) => stat.kind === 'directory' && checkpointName.test(name))
    .map(([name]) => ({ name, number: Number(checkpointName.exec(name)![1]) }))
    .sort((a, b) => a.number - b.number)
}

export const prometheusWalProfile: Profile = {
  name: 'prometheus-wal',
  summary: profileSummaries['prometheus-wal'],
  vanished: 'finish',
  tailMayShrink: false,
  compare: (a, b) => Number(a) - Number(b) || compareBytes(a, b),
  sequenceNumber: name => (segmentName.test(name) ? Number(name) : undefined),
  async layout(view) {
    // an older checkpoint is about to be deleted, and what it holds is in the newest
    const newest = checkpoints(view).at(-1)
    const segments = fileNames(view).filter(name => segmentName.test(name))
    const temporary = otherNames(view).filter(name => name.startsWith('checkpoint.'))
    return {
      packs: segments.sort((a, b) => Number(a) - Number(b)),
      wholes: [],
      trees: newest === undefined ? [] : [newest.name],
      leftOut: otherNames(view, new Set(temporary)),
      ...(newest === undefined ? {} : { coveredTo: newest.number }),
    }
  },
  async detect(path, view) {
    const segments = fileNames(view).filter(name => segmentName.test(name))
    const first = segments.find(name => view.entries.get(name)!.size > 0)
    // a new server has written nothing yet: the place and the name have to do
    if (first === undefined && segments.length > 0 && path.endsWith('/wal')) {
      return {
        confidence: 0.5,
        profile: 'prometheus-wal',
        reason: `an empty segment ${segments[0]} in a directory named wal`,
      }
    }
    if (first === undefined) return undefined
    const page = await view.readSmall(first)
    if (page === undefined || checkPage(page.subarray(0, pageBytes)).records === 0) return undefined
    return {
      confidence: 0.95,
      profile: 'prometheus-wal',
      reason: `a Prometheus write-ahead log (${segments.length} segments, the first is ${first})`,
    }
  },
}

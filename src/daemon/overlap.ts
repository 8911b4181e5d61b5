import { HotspareError } from '../os/errors.ts'
import { isWithin } from '../os/real-path.ts'
import type { Storage } from '../os/storage.ts'
import { sidecarPath } from '../replica/sidecar.ts'

/** What engines keep beside a one-file store: to write a copy there would be to write into the store. */
const sideFileSuffixes = ['-wal', '-shm', '-journal']

/**
 * Refuses a target that is the source, lies inside it, or has it inside. A copy that feeds on itself grows until the
 * disk is full; one that lands in its source destroys it. Both paths real and absolute.
 */
export async function refuseOverlap(storage: Storage, source: string, target: string): Promise<void> {
  const refuse = (how: string): never => {
    throw new HotspareError(
      'target-inside-source',
      `${target} ${how} ${source}: a copy must lie outside its source. Choose another target.`,
      { details: { source, target } },
    )
  }
  if (target === source) refuse('is the source')
  const sideFiles = sideFileSuffixes.map(suffix => source + suffix)
  if (sideFiles.includes(target)) refuse('is a part of the source')
  if (isWithin(target, source)) refuse('lies inside the source')
  if (isWithin(source, target)) refuse('contains the source')
  if (isWithin(source, sidecarPath(target))) refuse('keeps its state around the source')
  const [sourceStat, targetStat] = [await storage.stat(source), await storage.stat(target)]
  if (
    sourceStat !== undefined &&
    sourceStat.inode === targetStat?.inode &&
    sourceStat.device === targetStat.device
  ) {
    refuse('is another name of the source')
  }
}

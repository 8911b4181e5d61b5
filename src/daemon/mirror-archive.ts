import { HotspareError } from '../os/errors.ts'
import { realPath } from '../os/real-path.ts'
import { parentDirectory, type Storage } from '../os/storage.ts'
import { absolutePath } from './paths.ts'

/** What is wrong with an archive's name or place is known before the application is held, rather than after. */
export async function checkArchivePlace(storage: Storage, file: string): Promise<void> {
  const { formatOfName } = await import('../archive/compression.ts')
  if (formatOfName(file) === undefined) {
    throw new HotspareError(
      'usage',
      `The name ${file} does not say what kind of archive is wanted: end it in .tar, .tar.gz, .tgz or .tar.zst.`,
    )
  }
  const directory = await realPath(storage, parentDirectory(absolutePath(file)))
  if ((await storage.stat(directory))?.kind === 'directory') return
  throw new HotspareError('target-missing', `There is no directory ${directory} to put the archive in.`)
}

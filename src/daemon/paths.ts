import { resolve } from 'node:path'
import { HotspareError } from '../os/errors.ts'

/** From the working directory; a trailing '/' stays, since it says 'a directory'. */
export function absolutePath(path: string): string {
  if (path === '' || path.includes('\0')) throw new HotspareError('usage', 'A path must not be empty.')
  // '..' after a symbolic link means what the system means by it, which only `realPath` can tell
  if (path.split('/').includes('..')) return path.startsWith('/') ? path : `${process.cwd()}/${path}`
  const absolute = resolve(path)
  return path.endsWith('/') && absolute !== '/' ? `${absolute}/` : absolute
}

import { HotspareError } from './errors.ts'
import { parentDirectory, type Storage } from './storage.ts'

const linksMax = 40

/**
 * An absolute path without symbolic links, '.' or '..'. What does not exist yet stays as it is written, below the
 * part that exists. Throws `io-error` when the links lead in a circle.
 */
export async function realPath(storage: Storage, absolutePath: string): Promise<string> {
  const waiting = absolutePath.split('/').reverse()
  let links = 0
  let path = ''
  for (;;) {
    const part = waiting.pop()
    if (part === undefined) return path === '' ? '/' : path
    if (part === '' || part === '.') continue
    if (part === '..') {
      path = path === '' ? '' : parentDirectory(path).replace(/^\/$/, '')
      continue
    }
    const next = `${path}/${part}`
    const stat = await storage.stat(next)
    if (stat?.kind !== 'symlink') {
      path = next
      continue
    }
    if (++links > linksMax)
      throw new HotspareError('io-error', `Too many symbolic links on the way to ${absolutePath}.`)
    const target = (await storage.readlink(next)).toString('utf8')
    if (target.startsWith('/')) path = ''
    waiting.push(...target.split('/').reverse())
  }
}

/** True when `path` is `ancestor` or lies below it; both absolute and real. */
export function isWithin(path: string, ancestor: string): boolean {
  return path === ancestor || path.startsWith(ancestor.endsWith('/') ? ancestor : `${ancestor}/`)
}

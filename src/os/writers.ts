/**
 * Who has a store open for writing, from Linux's /proc: what may not be written by two is looked at before it is taken.
 * Sees only processes that it may look into; nothing is said of the others.
 */
import { readdir, readFile, readlink } from 'node:fs/promises'

const accessModeMask = 0o3
/** What an engine has beside a database of one file. */
const sideFileSuffixes = ['-wal', '-shm', '-journal']

/** Of other processes than this one, for people: `redis-server, process 42`. `path` is absolute and real. */
export async function writersOf(path: string): Promise<readonly string[]> {
  const writers: string[] = []
  for (const pid of await names('/proc')) {
    if (!/^\d+$/.test(pid) || Number(pid) === process.pid) continue
    if (!(await writes(pid, path))) continue
    const name = await readFile(`/proc/${pid}/comm`, 'utf8').catch(() => '')
    writers.push(`${name.trim() || 'unknown'}, process ${pid}`)
  }
  return writers
}

async function writes(pid: string, path: string): Promise<boolean> {
  for (const fd of await names(`/proc/${pid}/fd`)) {
    const target = await readlink(`/proc/${pid}/fd/${fd}`).catch(() => undefined)
    if (target === undefined || !isPart(target, path)) continue
    const info = await readFile(`/proc/${pid}/fdinfo/${fd}`, 'utf8').catch(() => '')
    const flags = Number.parseInt(/^flags:\s*([0-7]+)/m.exec(info)?.[1] ?? '0', 8)
    if ((flags & accessModeMask) !== 0) return true
  }
  return false
}

function isPart(target: string, path: string): boolean {
  return (
    target === path ||
    target.startsWith(`${path}/`) ||
    sideFileSuffixes.some(suffix => target === path + suffix)
  )
}

/** None for a process that has ended, or that is not ours to look into. */
function names(directory: string): Promise<string[]> {
  return readdir(directory).catch(() => [])
}

import { homedir } from 'node:os'
import { resolve } from 'node:path'
import { isSystemError } from '../os/errors.ts'
import type { Storage } from '../os/storage.ts'

/** Where what must outlive a process is kept that belongs to no copy. Absolute. */
export function stateDirectory(environment: NodeJS.ProcessEnv = process.env): string {
  const { HOTSPARE_STATE_DIR, XDG_STATE_HOME } = environment
  if (HOTSPARE_STATE_DIR) return resolve(HOTSPARE_STATE_DIR)
  if (process.getuid?.() === 0) return '/var/lib/hotspare'
  // a relative one is to be ignored, says the XDG base directory specification
  const base = XDG_STATE_HOME?.startsWith('/') ? XDG_STATE_HOME : `${homedir()}/.local/state`
  return `${base}/hotspare`
}

export function leasesDirectory(state: string): string {
  return `${state}/leases`
}

/** False when there is surely nothing that a mirror left behind: all that it costs then is one listing. */
export async function hasLeases(storage: Storage, state: string): Promise<boolean> {
  try {
    return (await storage.list(leasesDirectory(state))).some(name => name.includes('.json'))
  } catch (error) {
    // whoever looks closer says what is wrong
    return !isSystemError(error, 'ENOENT', 'ENOTDIR')
  }
}

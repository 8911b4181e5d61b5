import { homedir } from 'node:os'
import { resolve } from 'node:path'

/** Where what must outlive a process is kept that belongs to no copy. Absolute. */
export function stateDirectory(environment: NodeJS.ProcessEnv = process.env): string {
  const { HOTSPARE_STATE_DIR, XDG_STATE_HOME } = environment
  if (HOTSPARE_STATE_DIR) return resolve(HOTSPARE_STATE_DIR)
  if (process.getuid?.() === 0) return '/var/lib/hotspare'
  // a relative one is to be ignored, says the XDG base directory specification
  const base = XDG_STATE_HOME?.startsWith('/') ? XDG_STATE_HOME : `${homedir()}/.local/state`
  return `${base}/hotspare`
}

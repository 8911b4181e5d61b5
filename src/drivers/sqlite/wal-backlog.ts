import { closeSync, openSync } from 'node:fs'
import type { Position } from '../../stream/entry.ts'
import type { Backlog } from '../../stream/source.ts'
import { decodePosition } from './sqlite-position.ts'
import { frameOffset, walHeaderBytes } from './wal-format.ts'
import { FrameBuffer, WalTail } from './wal-tail.ts'

/**
 * Committed bytes of a database's log behind a position, from the log alone (it carries no locks); undefined when the
 * log is another one by now.
 */
export function walBacklog(databasePath: string, position: Position): Backlog | undefined {
  const at = decodePosition(position)
  if (at?.kind !== 'wal') return undefined
  let fd: number
  try {
    fd = openSync(`${databasePath}-wal`, 'r')
  } catch {
    return undefined // no log, or none that we may read: not to be told cheaply
  }
  try {
    const place = { frame: at.frame, checksum: { s1: at.s1, s2: at.s2 } }
    const buffer = new FrameBuffer()
    let tail = WalTail.open(fd, buffer, place)
    if (tail === undefined) return undefined
    let before = frameOffset(at.frame + 1, at.pageBytes)
    if (tail.header.salt1 !== at.salt1 || tail.header.salt2 !== at.salt2 || !tail.holds(place)) {
      if (tail.header.salt1 !== (at.salt1 + 1) >>> 0) return undefined
      tail = WalTail.open(fd, buffer) as WalTail
      before = walHeaderBytes
    }
    return { bytes: frameOffset(tail.lastCommitFrame() + 1, at.pageBytes) - before }
  } finally {
    closeSync(fd)
  }
}

/**
 * An application of the demo, in a process of its own: an append-only record log. It knows nothing of hotspare.
 *
 * Arguments: the directory. Says how many records it has written, a line of JSON every 100 ms; ends on SIGTERM.
 */
import { closeSync, fdatasyncSync, openSync, rmSync, writeSync } from 'node:fs'
import { frameRecord, packBytes, packName, packsKept } from './pack-log.ts'
import { writeUntilTold } from './writer-loop.ts'

const syncBytes = 256 * 1024

const directory = process.argv[2] ?? ''
let pack = 1
let size = 0
let unsynced = 0
let fd = openSync(`${directory}/${packName(pack)}`, 'wx')

function nextPack(): void {
  fdatasyncSync(fd)
  closeSync(fd)
  pack++
  size = 0
  unsynced = 0
  fd = openSync(`${directory}/${packName(pack)}`, 'wx')
  if (pack > packsKept) rmSync(`${directory}/${packName(pack - packsKept)}`)
}

await writeUntilTold(40, number => {
  const record = frameRecord(number, 100 + ((number * 31) % 800))
  if (size + record.length > packBytes) nextPack()
  writeSync(fd, record)
  size += record.length
  unsynced += record.length
  if (unsynced >= syncBytes) {
    fdatasyncSync(fd)
    unsynced = 0
  }
})
fdatasyncSync(fd)
closeSync(fd)

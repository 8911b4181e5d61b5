/**
 * `node pack-writer.ts DIRECTORY PACK_BYTES KEEP_MS [BYTES_PER_SECOND]`: writes numbered records until it is killed:
 * packs at full speed, with a rest between them, so that what it keeps for a time is not more than any disk can copy in
 * that time. (Packs that are deleted sooner than a disk can take them are a gap, and no fault of a follower.)
 */
import * as fs from 'node:fs'
import { join } from 'node:path'
import { encodeRecord, judgePacks, packName, packNumbers } from './pack-store.ts'

const [root, packBytesText, keepMsText, bytesPerSecondText = '40000000'] = process.argv.slice(2)
if (root === undefined)
  throw new Error('usage: pack-writer.ts DIRECTORY PACK_BYTES KEEP_MS [BYTES_PER_SECOND]')
const packBytes = Number(packBytesText)
const keepMs = Number(keepMsText)
const bytesPerSecondMax = Number(bytesPerSecondText)

fs.mkdirSync(root, { recursive: true })
let number = judgePacks(root)
const numbers = packNumbers(root)
let pack = (numbers.at(-1) ?? 0) + 1
let lowest = numbers[0] ?? pack
const finishedMs = new Map<number, number>(numbers.map(one => [one, Date.now()]))

const rest = new Int32Array(new SharedArrayBuffer(4))
let dueMs = Date.now()
for (let saidMs = 0; ; pack++) {
  dueMs = Math.max(dueMs, Date.now() - 1000)
  if (dueMs > Date.now()) Atomics.wait(rest, 0, 0, dueMs - Date.now())
  dueMs += (packBytes / bytesPerSecondMax) * 1000
  const fd = fs.openSync(join(root, packName(pack)), 'ax')
  for (let bytes = 0; bytes < packBytes; ) {
    const record = encodeRecord(number + 1)
    fs.writeSync(fd, record)
    number++
    bytes += record.length
    if (Date.now() - saidMs >= 20) {
      saidMs = Date.now()
      fs.writeSync(1, `${number}\n`)
    }
  }
  fs.closeSync(fd)
  finishedMs.set(pack, Date.now())
  while (lowest < pack && Date.now() - finishedMs.get(lowest)! > keepMs) {
    fs.unlinkSync(join(root, packName(lowest)))
    finishedMs.delete(lowest++)
  }
}

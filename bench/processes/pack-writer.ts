/**
 * Appends blocks to one pack at a steady rate, and writes the file TIMES: pairs of the size after an append and
 * milliseconds since 1970, as 64-bit floats.
 *
 *   node pack-writer.ts FILE TIMES --seconds S --rate BYTES_A_SECOND
 */
import { openSync, writeFileSync, writeSync } from 'node:fs'
import { parseArgs } from 'node:util'

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { seconds: { type: 'string' }, rate: { type: 'string' } },
})
const [path, timesPath] = positionals as [string, string]
const block = Buffer.alloc(16 * 1024, 'record ')
const fd = openSync(path, 'a')
const notes: number[] = []
const startMs = performance.now()
const endMs = startMs + Number(values.seconds) * 1000
const blocksPerMs = Number(values.rate) / block.length / 1000
let blocks = 0
while (performance.now() < endMs) {
  const due = (performance.now() - startMs) * blocksPerMs
  if (blocks >= due) {
    await new Promise(resolve => setImmediate(resolve))
    continue
  }
  writeSync(fd, block)
  blocks++
  notes.push(blocks * block.length, performance.timeOrigin + performance.now())
}
writeFileSync(timesPath, new Float64Array(notes))

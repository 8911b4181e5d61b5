import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { closeFd, openRoot } from '../../os/tree-calls.ts'
import { systemCalls } from './copy-calls.ts'
import { encodeClosing, readClosing } from './copy-closing.ts'

const status = Buffer.from('{"phase":"live"}')

function reads(t: test.TestContext): (log: Uint8Array) => Buffer | undefined {
  const directory = mkdtempSync(join(tmpdir(), 'hotspare-closing-'))
  const fd = openRoot(directory)
  t.after(() => {
    closeFd(fd)
    rmSync(directory, { recursive: true })
  })
  return log => {
    writeFileSync(join(directory, 'state.log'), log)
    return readClosing(systemCalls, fd)
  }
}

test('the status behind a log is read whatever length the log has', t => {
  const read = reads(t)
  for (const bytes of [0, 1, 40, 16_384, 100_000]) {
    const log = Buffer.concat([Buffer.alloc(bytes, 7), encodeClosing(bytes, status)])
    assert.deepEqual(read(log), status)
  }
})

test('a closing with any byte changed, cut off, moved or appended to does not count', t => {
  const read = reads(t)
  const log = Buffer.concat([Buffer.alloc(40, 7), encodeClosing(40, status)])
  for (let at = 40; at < log.length; at++) {
    const damaged = Buffer.from(log)
    damaged[at] = (damaged[at] as number) ^ 1
    assert.equal(read(damaged), undefined, `byte ${at}`)
    assert.equal(read(log.subarray(0, at)), undefined, `cut at ${at}`)
  }
  assert.equal(read(Buffer.concat([log, Buffer.alloc(1)])), undefined)
  assert.equal(read(Buffer.concat([Buffer.alloc(8, 7), log])), undefined)
  assert.equal(read(log.subarray(1)), undefined)
})

test('a log that was closed with the mark alone is read whole', t => {
  assert.equal(reads(t)(Buffer.concat([Buffer.alloc(40, 7), Buffer.from('hsCLOSED')])), undefined)
})

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { FaultyStorage } from '../os/testing/faulty-storage.ts'
import { MemoryDisk } from '../os/testing/memory-disk.ts'
import { entryPath, position } from '../stream/entry.ts'
import { encodeFrame } from '../stream/frame.ts'
import { emptyState, readState, StateLog } from './state-log.ts'
import type { StateRecord } from './state-record.ts'

const path = '/state.log'

function commit(number: number, bytes = 0): StateRecord {
  const at = position(`${number} ${'x'.repeat(bytes)}`)
  return { kind: 'commit', commit: { position: at, consistent: true, timeMs: number } }
}

function file(name: string, id: number): StateRecord {
  return { kind: 'name', op: { kind: 'file', path: entryPath(name), file: id } }
}

/** A log of five groups, and where each of them ends. */
async function fiveGroups() {
  const storage = new FaultyStorage(new MemoryDisk())
  const log = await StateLog.create(storage, path, emptyState(4096))
  const ends: number[] = []
  const size = async () => (await storage.stat(path))?.size ?? 0
  ends.push(await size())
  await log.append([{ kind: 'name', op: { kind: 'directory', path: entryPath('') } }])
  ends.push(await size())
  for (let i = 1; i <= 4; i++) {
    await log.append([file(`f${i}`, i), commit(i)])
    ends.push(await size())
  }
  await log.close()
  const bytes = Buffer.alloc(ends.at(-1) as number)
  await (await storage.open(path, 'read')).read(bytes, 0)
  return { storage, bytes, ends }
}

async function put(storage: FaultyStorage, bytes: Buffer): Promise<void> {
  await storage.remove(path)
  const made = await storage.open(path, 'create-new')
  await made.write(bytes, 0)
}

test('a log cut anywhere is read to its last whole group, and goes on from there', async () => {
  const { storage, bytes, ends } = await fiveGroups()
  for (let cut = ends[0] as number; cut <= bytes.length; cut++) {
    await put(storage, bytes.subarray(0, cut))
    const opened = await StateLog.open(storage, path)
    const whole = Math.max(0, ends.filter(end => end <= cut).length - 2)
    assert.equal(opened?.state.commit?.timeMs, whole === 0 ? undefined : whole, `cut at ${cut}`)
    await opened?.log.append([commit(99)])
    await opened?.log.close()
    assert.equal((await readState(storage, path))?.commit?.timeMs, 99)
  }
})

test('a changed byte anywhere is damage, or in the last group a group less', async () => {
  const { storage, bytes, ends } = await fiveGroups()
  const last = ends.at(-2) as number
  for (let at = 0; at < bytes.length; at++) {
    const changed = Buffer.from(bytes)
    changed[at] = (changed[at] as number) ^ 0x40
    await put(storage, changed)
    if (at < last) await assert.rejects(readState(storage, path), { code: 'state-damaged' }, `byte ${at}`)
    else assert.equal((await readState(storage, path))?.commit?.timeMs, 3, `byte ${at}`)
  }
})

test('a log of another version is told as that', async () => {
  const storage = new FaultyStorage(new MemoryDisk())
  await put(storage, encodeFrame(Buffer.from([9, 3, 1])))
  await assert.rejects(readState(storage, path), { code: 'state-version' })
})

test('a log that has grown is written anew, and says the same', async () => {
  const storage = new FaultyStorage(new MemoryDisk())
  const log = await StateLog.create(storage, path, emptyState(4096))
  await log.append([{ kind: 'name', op: { kind: 'directory', path: entryPath('') } }, file('a', 1)])
  for (let i = 0; !log.isLarge; i++) await log.append([commit(i, 60_000)])
  const before = await readState(storage, path)
  assert.ok(before !== undefined)
  await log.rewrite(before)
  assert.equal(log.isLarge, false)
  const size = (await storage.stat(path))?.size ?? 0
  assert.ok(size < 100_000, `${size} bytes`)
  await log.append([file('b', 2)])
  await log.close()
  const after = await readState(storage, path)
  assert.equal(after?.commit?.position, before.commit?.position)
  assert.deepEqual(
    [...(after?.tree.walk() ?? [])].map(found => found.path),
    ['', 'a', 'b'],
  )
})

import assert from 'node:assert/strict'
import test from 'node:test'
import type { Storage } from '../os/storage.ts'
import type { FaultyStorage } from '../os/testing/faulty-storage.ts'
import type { Log, LogOptions } from './log.ts'
import {
  append,
  memory,
  openTestLog,
  pieces,
  receiveAll,
  roomy,
  storeA,
  storeB,
  transactions,
} from './testing/log-harness.ts'

const options: Partial<LogOptions> = {
  segmentBytes: 900,
  stream: 's',
  limits: { ...roomy, keepBytes: 1e9 },
}

/** A closed log of 30 transactions in several segments, of which each subscriber has so many. */
async function madeLog(acknowledged: Readonly<Record<string, number>>): Promise<FaultyStorage> {
  const storage = memory()
  const { log } = await openTestLog(storage, options)
  for (const name of Object.keys(acknowledged)) await log.subscribe(name, 0)
  for (let i = 1; i <= 30; i++) {
    await append(log, i % 2 === 0 ? storeA : storeB, i)
    await log.sync()
  }
  for (const [name, number] of Object.entries(acknowledged)) log.acknowledge(name, number)
  await log.close()
  return storage
}

async function segmentPaths(storage: Storage): Promise<string[]> {
  return (await storage.list('/log'))
    .filter(name => name.endsWith('.seg'))
    .sort()
    .map(name => `/log/${name}`)
}

async function bytesOf(storage: Storage, path: string): Promise<Buffer> {
  const file = await storage.open(path, 'read')
  const bytes = Buffer.alloc((await file.stat()).size)
  await file.read(bytes, 0)
  await file.close()
  return bytes
}

async function overwrite(storage: Storage, path: string, bytes: Buffer): Promise<void> {
  const file = await storage.open(path, 'create')
  await file.truncate(0)
  await file.write(bytes, 0)
  await file.close()
}

async function flip(storage: Storage, path: string, offset: number): Promise<void> {
  const bytes = await bytesOf(storage, path)
  bytes[offset] = (bytes[offset] as number) ^ 0x10
  await overwrite(storage, path, bytes)
}

const firstOf = (path: string) => Number(path.slice(5, 25))
const keptOf = (log: Log) => Object.fromEntries(log.subscribers().map(({ name, kept }) => [name, kept]))

async function expectPrefixOfNumbers(log: Log): Promise<void> {
  const found = await transactions(log)
  assert.deepEqual(
    found.map(({ number, position }) => [number, position]),
    found.map((_, i) => [log.first + i, String(log.first + i)]),
  )
  assert.equal(found.length, log.next - log.first)
}

test('a damaged middle of a primary: the log begins after it, whoever needed it is no longer kept for', async () => {
  const storage = await madeLog({ behind: 3, ahead: 25 })
  const paths = await segmentPaths(storage)
  assert.ok(paths.length >= 5)
  const path = paths[2] as string
  const next = firstOf(paths[3] as string)
  await flip(storage, path, 600)
  const damagedBytes = await bytesOf(storage, path)
  const { log, notices } = await openTestLog(storage, options)
  const [damage] = log.damage
  assert.equal(log.damage.length, 1)
  assert.deepEqual([damage?.goesOn, damage?.toNumber], ['after', next - 1])
  assert.ok((damage?.fromNumber as number) >= firstOf(path) && (damage?.fromNumber as number) < next)
  assert.deepEqual(await bytesOf(storage, damage?.file as string), damagedBytes)
  assert.equal(notices[0]?.code, 'log-damaged')
  assert.equal(log.first, next)
  assert.equal(log.next, 31)
  assert.deepEqual(keptOf(log), { behind: false, ahead: true })
  assert.deepEqual([log.mark(storeA)?.position, log.mark(storeB)?.position], ['30', '29'])
  await expectPrefixOfNumbers(log)
  await log.close()
  const again = await openTestLog(storage, options)
  assert.deepEqual(again.log.damage, [], 'it is told once')
  assert.deepEqual(keptOf(again.log), { behind: false, ahead: true })
})

test('a standby damaged behind what is applied loses nothing', async () => {
  const storage = await madeLog({ '#apply': 25 })
  const paths = await segmentPaths(storage)
  await flip(storage, paths[1] as string, 600)
  const { log } = await openTestLog(storage, { ...options, refetch: true })
  assert.deepEqual([log.damage.length, log.damage[0]?.goesOn], [1, 'after'])
  assert.deepEqual([log.first, log.next], [firstOf(paths[2] as string), 31])
  assert.deepEqual(keptOf(log), { '#apply': true })
  await expectPrefixOfNumbers(log)
})

test('a standby damaged ahead of what is applied ends before it, and takes the rest again', async () => {
  const storage = await madeLog({ '#apply': 6 })
  const source = await openTestLog(storage, options)
  const all = await pieces(source.log)
  const chain = await source.log.chainAfter(30)
  await source.log.close()
  const paths = await segmentPaths(storage)
  await flip(storage, paths[3] as string, 700)
  const { log } = await openTestLog(storage, { ...options, refetch: true })
  const [damage] = log.damage
  assert.deepEqual([log.damage.length, damage?.goesOn, damage?.toNumber], [1, 'before', 30])
  assert.equal(damage?.fromNumber, log.next)
  assert.ok(log.next > firstOf(paths[3] as string) && log.next < 30)
  assert.deepEqual(keptOf(log), { '#apply': true })
  const from = all.findIndex(piece => piece.type === 'begin' && piece.number === log.next)
  await receiveAll(log, all.slice(from))
  await log.sync()
  assert.equal(await log.chainAfter(30), chain)
  await expectPrefixOfNumbers(log)
  await log.close()
  assert.equal((await storage.list('/log/damaged')).length, 1 + paths.length - 4)
})

test('a missing segment is named, and the log goes on after it', async () => {
  const storage = await madeLog({})
  const paths = await segmentPaths(storage)
  await storage.remove(paths[2] as string)
  const { log } = await openTestLog(storage, options)
  const [damage] = log.damage
  assert.deepEqual(
    [damage?.fromNumber, damage?.toNumber, damage?.file],
    [firstOf(paths[2] as string), firstOf(paths[3] as string) - 1, undefined],
  )
  assert.equal(log.first, firstOf(paths[3] as string))
  await expectPrefixOfNumbers(log)
})

test("another log's segment in the place of one is named by its chain, and not read", async () => {
  const storage = await madeLog({})
  const other = memory()
  const { log: foreign } = await openTestLog(other, options)
  await foreign.subscribe('keeper', 0)
  for (let i = 1; i <= 30; i++) await append(foreign, i % 2 === 0 ? storeA : storeB, 1000 + i, 97)
  await foreign.close()
  const paths = await segmentPaths(storage)
  const same = (await segmentPaths(other)).find(path => paths.slice(1, -1).includes(path)) as string
  await overwrite(storage, same, await bytesOf(other, same))
  const { log } = await openTestLog(storage, options)
  assert.ok(log.damage.length >= 1)
  await expectPrefixOfNumbers(log)
})

test('a flipped byte anywhere is named, and what is read is what was written', async () => {
  const whole = await madeLog({})
  const paths = await segmentPaths(whole)
  for (const path of paths) {
    const bytes = await bytesOf(whole, path)
    for (let offset = 0; offset < bytes.length; offset += 11) {
      for (const refetch of [false, true]) {
        const storage = await copyOf(whole, paths)
        await flip(storage, path, offset)
        const { log } = await openTestLog(storage, { ...options, refetch })
        assert.ok(log.damage.length > 0, `${path} at ${offset}`)
        await expectPrefixOfNumbers(log)
        await log.close()
      }
    }
  }
})

test('a segment that lost its end is named, and what is read is what was written', async () => {
  const whole = await madeLog({})
  const paths = await segmentPaths(whole)
  for (const path of [paths[1] as string, paths.at(-1) as string]) {
    const bytes = await bytesOf(whole, path)
    for (let length = 0; length < bytes.length; length += 7) {
      const storage = await copyOf(whole, paths)
      await overwrite(storage, path, bytes.subarray(0, length))
      const { log } = await openTestLog(storage, options)
      assert.ok(log.damage.length > 0, `${path} cut to ${length}`)
      await expectPrefixOfNumbers(log)
      await log.close()
    }
  }
})

async function copyOf(whole: Storage, paths: readonly string[]): Promise<FaultyStorage> {
  const storage = memory()
  await storage.makeDirectory('/log')
  for (const path of [...paths, '/log/state']) await overwrite(storage, path, await bytesOf(whole, path))
  return storage
}

test('without its state a log is begun anew, and all that it had is kept aside', async () => {
  const storage = await madeLog({})
  const paths = await segmentPaths(storage)
  await flip(storage, '/log/state', 30)
  const { log } = await openTestLog(storage, { segmentBytes: 900, stream: 'new' })
  assert.equal(log.damage.length, 1)
  assert.deepEqual([log.first, log.next, log.stream, log.subscribers()], [1, 1, 'new', []])
  assert.equal((await storage.list('/log/damaged')).length, paths.length + 1)
})

test('damage that comes while the log is open is named, and not given to anybody', async () => {
  const storage = await madeLog({})
  const { log } = await openTestLog(storage, options)
  const [, path] = await segmentPaths(storage)
  await flip(storage, path as string, 500)
  await assert.rejects(pieces(log, 1), { code: 'log-damaged' })
})

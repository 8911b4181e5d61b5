import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Log } from '../../log/log.ts'
import { openLog } from '../../log/segment-log.ts'
import { FaultyStorage } from '../../os/testing/faulty-storage.ts'
import { MemoryDisk } from '../../os/testing/memory-disk.ts'
import { Random } from '../../os/testing/random.ts'
import { VirtualClock } from '../../os/testing/virtual-clock.ts'
import { entryPath, position, storeName } from '../../stream/entry.ts'
import type { LogPiece } from '../../stream/log-piece.ts'
import { type LogCursor, LogReading, LogUnreadable } from './log-reading.ts'
import { testRandom } from './testing/test-random.ts'

const store = storeName('a')
const signal = new AbortController().signal

async function logOf(transactions: number): Promise<Log> {
  const log = await openLog({
    storage: new FaultyStorage(new MemoryDisk()),
    clock: new VirtualClock(),
    random: testRandom(1),
    directory: '/log',
    limits: { bytesMax: 1 << 30, whenFull: 'block', keepMs: 0, keepBytes: 1 << 30 },
    onNotice() {},
    segmentBytes: 64 * 1024,
  })
  await append(log, transactions)
  return log
}

async function append(log: Log, transactions: number): Promise<void> {
  const sink = log.sink(store)
  for (let i = 0; i < transactions; i++) {
    for (let offset = 0; offset < (i % 5) * 2000; offset += 500)
      await sink.write({ type: 'write', store, path: entryPath('f'), offset, data: Buffer.alloc(500, i) })
    await sink.write({ type: 'commit', store, position: position(`p${i}`), consistent: true, timeMs: i })
  }
  await sink.sync()
  await sink.close()
}

/** Pieces as bytes, however they are cut. */
class Taken {
  readonly #digest: string[] = []
  #bytes: Buffer[] = []

  add(piece: LogPiece): void {
    if (piece.type === 'entries') this.#bytes.push(Buffer.from(piece.data))
    else if (piece.type === 'begin') this.#bytes = []
    else this.#digest.push(`${piece.number} ${Buffer.concat(this.#bytes).toString('base64')}`)
  }

  get all(): readonly string[] {
    return this.#digest
  }
}

async function whole(log: Log, from: number): Promise<readonly string[]> {
  const taken = new Taken()
  for await (const piece of log.read(from, signal)) taken.add(piece)
  return taken.all
}

test('every reader gets every transaction once and in order, however far the others are ahead', async () => {
  for (let seed = 1; seed <= 30; seed++) {
    const random = new Random(seed)
    const log = await logOf(40)
    // so little that who is behind falls out of it, within a transaction too
    const reading = new LogReading(log, new VirtualClock(), 1000 + random.below(20_000))
    const readers = Array.from({ length: 3 }, () => {
      const from = 1 + random.below(41)
      return { from, cursor: reading.cursor(from), taken: new Taken(), ended: false }
    })
    for (let turn = 0; readers.some(({ ended }) => !ended); turn++) {
      if (turn === 30) await append(log, 20)
      const reader = random.pick(readers)
      for (let i = random.below(30); i > 0; i--) {
        const piece = await reader.cursor.piece()
        if (piece !== undefined) reader.taken.add(piece)
        reader.ended = piece === undefined && turn > 30
        if (piece === undefined) break
      }
    }
    for (const { from, cursor, taken } of readers) {
      assert.deepEqual(taken.all, await whole(log, from), `seed ${seed}, from ${from}`)
      assert.equal(cursor.next, log.durable + 1)
      await cursor.close()
    }
    await reading.close()
    await log.close()
  }
})

test('a reader that was left takes nothing from the others, and the log is read on from anywhere', async () => {
  const log = await logOf(30)
  const reading = new LogReading(log, new VirtualClock(), 4000)
  const left = reading.cursor(3)
  await left.piece()
  await left.close()
  for (const from of [20, 1, 31]) {
    const cursor = reading.cursor(from)
    const taken = await drained(cursor)
    assert.deepEqual(taken, from > log.durable ? [] : await whole(log, from))
    await cursor.close()
  }
  await reading.close()
  await log.close()
})

test('what the log does not keep any more is said to be unreadable, and to no other reader', async () => {
  const log = await logOf(30)
  await log.restart({ next: 100, chain: '0'.repeat(16) })
  const reading = new LogReading(log, new VirtualClock())
  await assert.rejects(
    reading.cursor(5).piece(),
    error => error instanceof LogUnreadable && error.code === 'log-removed',
  )
  await append(log, 2)
  assert.equal((await drained(reading.cursor(100))).length, 2)
  await reading.close()
  await log.close()
})

async function drained(cursor: LogCursor): Promise<readonly string[]> {
  const taken = new Taken()
  for (let piece = await cursor.piece(); piece !== undefined; piece = await cursor.piece()) taken.add(piece)
  return taken.all
}

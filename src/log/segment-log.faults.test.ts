/** The log's laws at every step of the disk: the machine stops before, in or after it, or the call fails. */
import assert from 'node:assert/strict'
import test from 'node:test'
import { type Fate, FaultyStorage, noFaults } from '../os/testing/faulty-storage.ts'
import { MemoryDisk } from '../os/testing/memory-disk.ts'
import { Random } from '../os/testing/random.ts'
import { type Position, position, type WriteChange } from '../stream/entry.ts'
import type { LogPiece } from '../stream/log-piece.ts'
import type { Log } from './log.ts'
import {
  append,
  memory,
  openTestLog,
  pieces,
  receiveAll,
  roomy,
  storeA,
  storeB,
  transaction,
  transactions,
} from './testing/log-harness.ts'

/** What the log has promised, and what it was given. */
interface Ledger {
  /** The position of each transaction that was given, by its number - 1. */
  given: string[]
  durable: number
  acknowledged: number | undefined
  rebased: { after: number; position: Position } | undefined
}

type Script = (log: Log, ledger: Ledger) => Promise<void>

const small = { segmentBytes: 900, bufferBytes: 700, limits: roomy } as const

async function give(log: Log, ledger: Ledger, at: number, bytes = 150): Promise<void> {
  ledger.given[log.next - 1] = String(at)
  await append(log, at % 2 === 0 ? storeA : storeB, at, bytes)
}

async function settle(log: Log, ledger: Ledger): Promise<void> {
  const last = log.next - 1
  await log.sync()
  ledger.durable = last
}

const appending: Script = async (log, ledger) => {
  await log.subscribe('keeper', 0)
  ledger.acknowledged ??= 0
  for (let at = 1; at <= 12; at++) {
    await give(log, ledger, at)
    if (at % 3 === 0) await settle(log, ledger)
  }
  await give(log, ledger, 13, 2000)
  await settle(log, ledger)
  ledger.acknowledged = 7
  log.acknowledge('keeper', 7)
  for (let at = 14; at <= 18; at++) await give(log, ledger, at)
  await settle(log, ledger)
  const after = log.next - 1
  await log.rebase(storeA, position('1000'))
  ledger.rebased = { after, position: position('1000') }
  await give(log, ledger, 19)
  await settle(log, ledger)
}

/** The pieces of a log into which `appending` was written. */
async function givenPieces(): Promise<LogPiece[]> {
  const { log } = await openTestLog(memory(), { ...small, stream: 's' })
  await log.subscribe('keeper', 0)
  const ledger = emptyLedger()
  for (let at = 1; at <= 12; at++) await give(log, ledger, at, at % 4 === 0 ? 1500 : 100)
  await log.sync()
  return pieces(log, 1)
}

function receiving(given: readonly LogPiece[]): Script {
  return async (log, ledger) => {
    await log.subscribe('keeper', 0)
    ledger.acknowledged ??= 0
    let count = 0
    for (const piece of given) {
      if (piece.type === 'end') ledger.given[piece.number - 1] = piece.position
      await log.receive(piece)
      count++
      // a link that breaks in the middle of a transaction, which then comes again
      if (piece.type === 'entries' && count % 4 === 0) {
        await log.abandon()
        await receiveAll(log, given.slice(given.lastIndexOf(piece) - 1, given.lastIndexOf(piece) + 1))
      }
      if (piece.type === 'end' && piece.number % 3 === 0) await settle(log, ledger)
    }
    await settle(log, ledger)
    log.acknowledge('keeper', 5)
    ledger.acknowledged = 5
  }
}

function emptyLedger(): Ledger {
  return { given: [], durable: 0, acknowledged: undefined, rebased: undefined }
}

/** Runs until the end or the first fault, and closes; gives whether it came to the end. */
async function run(storage: FaultyStorage, script: Script, ledger: Ledger): Promise<boolean> {
  try {
    const { log } = await openTestLog(storage, { ...small, stream: 's' })
    try {
      await script(log, ledger)
      await log.close()
      return true
    } catch {
      // what is promised stands in the ledger
      await log.close().catch(() => undefined)
      return false
    }
  } catch {
    return false
  }
}

async function check(storage: FaultyStorage, ledger: Ledger, what: string): Promise<void> {
  const { log, notices } = await openTestLog(storage, { ...small, stream: 's' })
  assert.deepEqual([log.damage, notices], [[], []], what)
  assert.ok(
    log.next - 1 >= ledger.durable,
    `${what}: ${log.next - 1} of ${ledger.durable} durable ones are there`,
  )
  const found = await transactions(log)
  assert.deepEqual(
    found.map(({ number, position }) => [number, position]),
    ledger.given.slice(log.first - 1, log.next - 1).map((at, i) => [log.first + i, at]),
    what,
  )
  for (const { store, position: at, entries } of found)
    assert.deepEqual(entries[0], transaction(store, at, (entries[0] as WriteChange).data.length)[0], what)
  const keeper = log.subscribers()[0]
  if (ledger.acknowledged !== undefined) {
    assert.ok(
      keeper?.kept && keeper.acknowledged <= ledger.acknowledged,
      `${what}: ${JSON.stringify(keeper)}`,
    )
    assert.ok(log.first <= ledger.acknowledged + 1, what)
  }
  const { rebased } = ledger
  const mark = log.mark(storeA)
  if (rebased !== undefined && (mark === undefined || mark.number <= rebased.after))
    assert.equal(await log.sink(storeA).position(storeA), rebased.position, what)
  // it can go on
  ledger.given[log.next - 1] = '99'
  await append(log, storeB, 99)
  await log.sync()
  ledger.durable = log.durable
  assert.equal((await transactions(log, log.durable))[0]?.position, '99', what)
  await log.close()
}

const fates: readonly Fate[] = [
  { kind: 'crash', done: 'nothing' },
  { kind: 'crash', done: 'part' },
  { kind: 'crash', done: 'all' },
  { kind: 'fail', code: 'EIO', done: 'nothing' },
  { kind: 'fail', code: 'ENOSPC', done: 'part' },
]

const scripts: readonly (readonly [string, () => Promise<Script>])[] = [
  ['appending', async () => appending],
  ['receiving', async () => receiving(await givenPieces())],
]

for (const [name, makeScript] of scripts) {
  test(`${name}: a fault at any step leaves a prefix with all that was durable, and no damage is seen`, async () => {
    const script = await makeScript()
    const whole = memory()
    assert.equal(await run(whole, script, emptyLedger()), true)
    const steps = whole.steps.length
    assert.ok(steps > 40, `only ${steps} steps`)
    for (let step = 0; step < steps; step++) {
      for (const [i, fate] of fates.entries()) {
        const what = `step ${step} (${JSON.stringify(whole.steps[step])}), ${JSON.stringify(fate)}`
        const storage = new FaultyStorage(new MemoryDisk(), at =>
          at.number === step ? fate : { kind: 'go' },
        )
        const ledger = emptyLedger()
        await run(storage, script, ledger)
        const random = new Random(step * 7 + i)
        if (fate.kind === 'fail' && step % 2 === 0) {
          // the process is started again, and the power fails later
          storage.replan(noFaults)
          await check(new FaultyStorage(storage.disk), ledger, `${what}, started again`)
          await check(new FaultyStorage(storage.disk.crash(random)), ledger, `${what}, and crashed`)
        } else await check(new FaultyStorage(storage.disk.crash(random)), ledger, what)
      }
    }
  })
}

test('a segment that cannot be closed after its sync holds nothing up: what follows it is read', async () => {
  const storage = memory()
  const open = storage.open.bind(storage)
  let failed = 0
  storage.open = async (path, mode) => {
    const file = await open(path, mode)
    if (mode !== 'create-new' || !String(path).endsWith('.seg')) return file
    const close = file.close.bind(file)
    file.close = async () => {
      await close()
      failed++
      throw Object.assign(new Error('EIO: close'), { code: 'EIO' })
    }
    return file
  }
  const { log } = await openTestLog(storage, small)
  await log.subscribe('keeper', 0)
  for (let at = 1; at <= 30; at++) await append(log, storeA, at)
  await log.sync()
  assert.ok(failed > 2, `${failed} segments were closed`)
  assert.deepEqual(
    (await transactions(log)).map(({ position }) => position),
    Array.from({ length: 30 }, (_, i) => String(i + 1)),
  )
  await log.close()
})

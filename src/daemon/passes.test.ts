import assert from 'node:assert/strict'
import { afterEach, beforeEach, test } from 'node:test'
import { systemClock } from '../os/clock.ts'
import { HotspareError } from '../os/errors.ts'
import { type Commit, type Entry, entryPath, type Position, position, storeName } from '../stream/entry.ts'
import { pump } from '../stream/pump.ts'
import type { Sink } from '../stream/sink.ts'
import type { ReadOptions } from '../stream/source.ts'
import type { HoldableSource } from './gated-source.ts'
import { PassAbandoned } from './pass-request.ts'
import { PassGate } from './passes.ts'
import { aborted } from './step.ts'

const store = storeName('tree')
const write = (path: string): Entry => ({
  type: 'write',
  store,
  path: entryPath(path),
  offset: 0,
  data: Buffer.from(path),
})

/** A tree of which the files that were written to since the last read are sent. */
class FakeTree implements HoldableSource {
  readonly dirty: string[] = []
  readonly log: string[] = []
  held = false
  changed: string[] = []
  /** A read stops before its end until this resolves. */
  gate: Promise<void> | undefined
  acknowledged: Position | undefined
  commitsBetween = 0
  #passes = 0
  #wake: () => void = () => {}

  write(...paths: string[]): void {
    this.dirty.push(...paths)
    this.#wake()
  }

  async *read(_from: Position | undefined, { signal }: ReadOptions): AsyncIterable<Entry> {
    const held = this.held
    const paths = this.dirty.splice(0)
    this.log.push(held ? 'read-held' : 'read')
    for (const path of paths) {
      yield write(path)
      if (held) for (let n = 0; n < this.commitsBetween; n++) yield this.#commit(false)
      if (this.gate !== undefined) await Promise.race([this.gate, aborted(signal)])
      if (signal.aborted) return
    }
    if (paths.length > 0 || held) yield this.#commit(held)
    this.log.push('end')
  }

  #commit(consistent: boolean): Commit {
    return { type: 'commit', store, position: position(`p${++this.#passes}`), consistent, timeMs: 0 }
  }

  async wait(signal: AbortSignal): Promise<void> {
    if (this.dirty.length > 0) return
    const woken = new AbortController()
    this.#wake = () => woken.abort()
    await aborted(AbortSignal.any([signal, woken.signal]))
  }

  async hold() {
    this.held = true
    this.log.push('hold')
    return {
      changed: async () => this.changed,
      release: async () => {
        this.held = false
        this.log.push('release')
      },
    }
  }

  async acknowledge(at: Position): Promise<void> {
    this.acknowledged = at
  }
  async close(): Promise<void> {}
}

class FakeSink implements Sink {
  readonly #log: string[]
  readonly committed: Commit[] = []
  readonly paths: string[] = []
  fault: HotspareError | undefined
  syncing: Promise<void> | undefined
  constructor(log: string[]) {
    this.#log = log
  }
  async position(): Promise<Position | undefined> {
    return this.committed.at(-1)?.position
  }
  async write(entry: Entry): Promise<void> {
    if (this.fault !== undefined) throw this.fault
    if (entry.type === 'commit') this.committed.push(entry)
    else if (entry.type === 'write') this.paths.push(entry.path)
  }
  async sync(): Promise<void> {
    this.#log.push('sync')
    await this.syncing
  }
  async close(): Promise<void> {}
}

let tree: FakeTree
let sink: FakeSink
let gate: PassGate
let stop: AbortController
let pumping: Promise<unknown>
let failure: unknown

beforeEach(() => {
  tree = new FakeTree()
  sink = new FakeSink(tree.log)
  gate = new PassGate()
  stop = new AbortController()
  failure = undefined
  const source = gate.attach(tree)
  const holding = () => gate.holding
  pumping = pump({ store, source, sink, clock: systemClock, signal: stop.signal, holding }).catch(error => {
    failure = error
    gate.failed(error)
  })
})
afterEach(async () => {
  stop.abort()
  await pumping
})

test('a pass that is asked for is answered when what it read is durable', async () => {
  let release = () => {}
  sink.syncing = new Promise(resolve => {
    release = resolve
  })
  const client = gate.connect()
  tree.write('a', 'bb')
  let done = false
  const pass = client.pass().then(report => {
    done = true
    return report
  })
  while (!tree.log.includes('sync')) await new Promise(setImmediate)
  assert.equal(done, false)
  release()
  const { files, bytes, removed } = await pass
  // the read that the hint woke may have taken them before the pass began
  assert.ok((files === 2 && bytes === 3) || (files === 0 && bytes === 0))
  assert.equal(removed, 0)
  assert.deepEqual(sink.paths.sort(), ['a', 'bb'])
})

test('after a pass no read begins until the one inside the window, which is told before it is durable', async () => {
  const client = gate.connect()
  await client.pass()
  const reads = tree.log.length
  tree.write('c')
  for (let n = 0; n < 20; n++) await new Promise(setImmediate)
  assert.equal(tree.log.length, reads)

  let release = () => {}
  sink.syncing = new Promise(resolve => {
    release = resolve
  })
  tree.changed = ['x']
  const held = client.hold()
  const report = await held.read
  assert.deepEqual(report, {
    files: 1,
    bytes: 1,
    removed: 0,
    changed: ['x'],
    changedCount: 1,
    consistent: true,
  })
  assert.deepEqual(tree.log.slice(reads, reads + 3), ['hold', 'read-held', 'end'])
  // not even given to the sink before the window was left well
  assert.equal(
    sink.committed.some(commit => commit.consistent),
    false,
  )
  held.conclude(true)
  while (tree.log.at(-1) !== 'sync') await new Promise(setImmediate)
  assert.equal(sink.committed.at(-1)?.consistent, true)
  release()
  await held.durable
  assert.equal(tree.acknowledged, sink.committed.at(-1)?.position)
})

test('nothing is synced inside the window, however many commits there are', async () => {
  const client = gate.connect()
  await client.pass()
  tree.commitsBetween = 3
  tree.dirty.push('a', 'b', 'c')
  const begun = tree.log.length
  const held = client.hold()
  await held.read
  assert.equal(tree.log.slice(begun).includes('sync'), false)
  held.conclude(true)
  await held.durable
  assert.equal(sink.committed.length, 10)
})

test('a window with nothing to read in it is a fact worth a commit', async () => {
  const client = gate.connect()
  await client.pass()
  const held = client.hold()
  assert.equal((await held.read).files, 0)
  held.conclude(true)
  await held.durable
  assert.equal(sink.committed.at(-1)?.consistent, true)
})

const givenUp: readonly (readonly [
  string,
  (held: { conclude(keep: boolean): void }, end: () => void) => void,
])[] = [
  ['the window is given up', held => held.conclude(false)],
  ['who asked for it has gone', (_, end) => end()],
]
for (const [how, giveUp] of givenUp) {
  for (const when of ['while it is read', 'when it was read'] as const) {
    test(`when ${how} ${when}, the sink never gets the commit, and the hold is released`, async () => {
      const client = gate.connect()
      await client.pass()
      tree.dirty.push('a', 'b')
      if (when === 'while it is read') tree.gate = new Promise(() => {})
      const held = client.hold()
      held.durable.catch(() => undefined)
      if (when === 'when it was read') await held.read
      else while (!sink.paths.includes('a')) await new Promise(setImmediate)
      giveUp(held, () => client.end())
      await pumping
      assert.ok(failure instanceof PassAbandoned)
      await assert.rejects(held.durable, PassAbandoned)
      assert.equal(
        sink.committed.some(commit => commit.consistent),
        false,
      )
      assert.equal(tree.held, false)
    })
  }
}

test('when the sink fails inside the window, that is told at once, and then why', async () => {
  const client = gate.connect()
  await client.pass()
  tree.dirty.push('a')
  sink.fault = new HotspareError('disk-full', 'no space')
  const held = client.hold()
  await assert.rejects(held.read, PassAbandoned)
  await assert.rejects(held.durable, { code: 'disk-full' })
  assert.equal(tree.held, false)
})

test('when what was read inside the window cannot be made durable, that is told', async () => {
  const client = gate.connect()
  await client.pass()
  tree.dirty.push('a')
  const held = client.hold()
  await held.read
  sink.syncing = Promise.reject(new HotspareError('disk-full', 'no space'))
  sink.syncing.catch(() => undefined)
  held.conclude(true)
  await assert.rejects(held.durable, { code: 'disk-full' })
})

test('what is asked for after a fault fails with it, until the next attempt', async () => {
  const client = gate.connect()
  tree.dirty.push('a')
  sink.fault = new HotspareError('disk-full', 'no space')
  await assert.rejects(client.pass(), { code: 'disk-full' })
  await assert.rejects(client.pass(), { code: 'disk-full' })
  sink.fault = undefined
  const source = gate.attach(tree)
  pumping = pump({ store, source, sink, clock: systemClock, signal: stop.signal })
  await client.pass()
})

test('a follower that is stopped does not wait for the mirror in its window', async () => {
  const client = gate.connect()
  await client.pass()
  const held = client.hold()
  held.durable.catch(() => undefined)
  await held.read
  stop.abort()
  await pumping
  assert.equal(
    sink.committed.some(commit => commit.consistent),
    false,
  )
})

test('one mirror at a time; the next may come when it has gone', () => {
  const first = gate.connect()
  assert.throws(() => gate.connect(), { code: 'target-busy' })
  first.end()
  gate.connect()
})

test('a flag file of ours is kept from the copy while the mirror is there', async () => {
  const client = gate.connect(['flag'])
  await client.pass()
  tree.dirty.push('flag', 'a')
  const held = client.hold()
  assert.equal((await held.read).files, 1)
  held.conclude(true)
  await held.durable
  assert.deepEqual(sink.paths, ['a'])
})

test('a source that needs no window says so', async () => {
  const plain = new PassGate()
  const { hold: _, ...rest } = tree
  plain.attach({
    ...rest,
    read: tree.read,
    wait: tree.wait,
    acknowledge: tree.acknowledge,
    close: tree.close,
  } as never)
  await assert.rejects(plain.connect().pass(), { code: 'unsupported' })
})

test('the follower goes on as ever when the mirror has gone', async () => {
  const client = gate.connect()
  await client.pass()
  client.end()
  tree.write('later')
  while (!sink.paths.includes('later')) await new Promise(setImmediate)
})

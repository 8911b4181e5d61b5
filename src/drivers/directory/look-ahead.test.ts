import assert from 'node:assert/strict'
import fs from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { systemClock } from '../../os/clock.ts'
import { nodeStorage } from '../../os/node-storage.ts'
import { pump } from '../../stream/pump.ts'
import { directoryDriver } from './driver.ts'
import { LookAhead, lookAhead, takeLookAhead } from './look-ahead.ts'
import { type DirectorySource, openDirectorySource } from './source.ts'
import { NaiveSink, rsyncDifference } from './testing/naive-sink.ts'
import { scratch, store } from './testing/source-fixture.ts'

const directories = 20
const filesEach = 5

class Copied {
  readonly live: string
  readonly target: string
  readonly sink: NaiveSink
  readonly #t: TestContext

  constructor(t: TestContext) {
    const base = scratch(t)
    this.#t = t
    this.live = join(base, 'live')
    this.target = join(base, 'copy')
    for (let d = 0; d < directories; d++) {
      fs.mkdirSync(join(this.live, `d${d}`), { recursive: true })
      for (let f = 0; f < filesEach; f++) fs.writeFileSync(join(this.live, `d${d}/f${f}`), `${d} ${f}`)
    }
    fs.mkdirSync(this.scratch, { recursive: true })
    this.sink = new NaiveSink(this.target)
  }

  get scratch(): string {
    return `${this.target}.hotspare/scratch`
  }

  get #options() {
    const { live: path, scratch } = this
    const onNotice = () => undefined
    return { storage: nodeStorage, clock: systemClock, store, path, driverOptions: {}, scratch, onNotice }
  }

  async open(ahead?: LookAhead): Promise<DirectorySource> {
    const source = await openDirectorySource(this.#options, ahead?.pool, ahead)
    this.#t.after(() => source.close())
    return source
  }

  /** By the driver, as a follower does it. */
  async openWhole(): Promise<DirectorySource> {
    return (await directoryDriver.openSource(this.#options)) as DirectorySource
  }

  async pass(source: DirectorySource): Promise<number> {
    this.sink.changes.length = 0
    const signal = new AbortController().signal
    await pump({ store, source, sink: this.sink, clock: systemClock, signal, once: true })
    return this.sink.changes.length
  }

  /** A first copy, and nothing that is so new that it is read again. */
  async copy(): Promise<void> {
    const source = await this.open()
    while ((await this.pass(source)) > 0 || this.#isRacy()) await systemClock.sleep(5)
    await this.pass(source)
    await source.close()
  }

  #isRacy(): boolean {
    return Date.now() - fs.statSync(this.live).ctimeMs < 100
  }

  /** A look ahead that has come to its end. */
  async looked(): Promise<LookAhead> {
    const ahead = await LookAhead.begin(this.live, `${this.scratch}/index`, systemClock.nowMs())
    assert.notEqual(await ahead.loaded, undefined)
    assert.equal((await ahead.answer).entries, directories * (filesEach + 1))
    return ahead
  }

  get difference(): string {
    return rsyncDifference(this.live, this.target)
  }

  /** Of every kind, in several places. */
  change(): void {
    fs.writeFileSync(join(this.live, 'd1/f1'), 'changed')
    fs.writeFileSync(join(this.live, 'd19/new'), 'new')
    fs.mkdirSync(join(this.live, 'd3/deep/deeper'), { recursive: true })
    fs.writeFileSync(join(this.live, 'd3/deep/deeper/file'), 'deep')
    fs.rmSync(join(this.live, 'd4'), { recursive: true })
    fs.renameSync(join(this.live, 'd5'), join(this.live, 'd7/moved'))
    fs.rmSync(join(this.live, 'd6'), { recursive: true })
    fs.symlinkSync('d1', join(this.live, 'd6'))
    fs.chmodSync(join(this.live, 'd9/f2'), 0o600)
  }
}

test('what was changed before a look ahead is in the pass that counts on it', async t => {
  const copied = new Copied(t)
  await copied.copy()
  copied.change()
  const ahead = await LookAhead.begin(copied.live, `${copied.scratch}/index`, systemClock.nowMs())
  const source = await copied.open(ahead)
  assert.ok((await copied.pass(source)) > 0)
  assert.equal(copied.difference, '')
})

test('a look ahead counts for one read: what was changed after it is in the next', async t => {
  const copied = new Copied(t)
  await copied.copy()
  const ahead = await copied.looked()
  fs.writeFileSync(join(copied.live, 'd1/f1'), 'changed after the look')
  const source = await copied.open(ahead)
  assert.equal(await copied.pass(source), 0)
  assert.ok((await copied.pass(source)) > 0)
  assert.equal(copied.difference, '')
})

const voided: Record<string, (copied: Copied, source: DirectorySource) => Promise<void>> = {
  'once writers are held': async (_copied, source) => void (await source.hold()),
  'once events are asked for': async (_copied, source) => source.watch(),
  'when another pass has come between': async copied => {
    fs.writeFileSync(join(copied.live, 'd2/f2'), 'between')
    const other = await copied.open()
    await copied.pass(other)
    await other.close()
  },
  'when the index is gone': async copied => {
    fs.rmSync(`${copied.scratch}/index`)
    copied.sink.tellsInventory = true
  },
  'when the root is another directory': async copied => {
    fs.renameSync(copied.live, `${copied.live}-before`)
    fs.cpSync(`${copied.live}-before`, copied.live, { recursive: true })
  },
}

for (const [when, make] of Object.entries(voided)) {
  test(`a look ahead does not count ${when}`, async t => {
    const copied = new Copied(t)
    await copied.copy()
    const ahead = await copied.looked()
    const source = await copied.open(ahead)
    await make(copied, source)
    copied.change()
    assert.ok((await copied.pass(source)) > 0)
    assert.equal(copied.difference, '')
  })
}

test('a driver takes the look ahead of its tree, once, and none that is old or of another tree', async t => {
  const copied = new Copied(t)
  await copied.copy()
  lookAhead(copied.live, copied.target, systemClock.nowMs())
  copied.change()
  const source = await copied.openWhole()
  await copied.pass(source)
  await copied.pass(source)
  await source.close()
  assert.equal(copied.difference, '')

  assert.equal(await takeLookAhead(copied.live, systemClock.nowMs()), undefined)
  lookAhead(copied.live, copied.target, systemClock.nowMs() - 10_000)
  assert.equal(await takeLookAhead(copied.live, systemClock.nowMs()), undefined)
  lookAhead(copied.live, copied.target, systemClock.nowMs())
  assert.equal(await takeLookAhead(`${copied.live}/d1`, systemClock.nowMs()), undefined)
})

test('where no copy lies there is no look ahead', async t => {
  const copied = new Copied(t)
  lookAhead(copied.live, `${copied.target}-none`, systemClock.nowMs())
  assert.equal(await takeLookAhead(copied.live, systemClock.nowMs()), undefined)
})

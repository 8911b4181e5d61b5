import assert from 'node:assert/strict'
import * as fs from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { type Clock, systemClock } from '../../os/clock.ts'
import { HotspareError } from '../../os/errors.ts'
import { nodeStorage } from '../../os/node-storage.ts'
import { fc } from '../../os/testing/properties.ts'
import { storeName } from '../../stream/entry.ts'
import { PacksSource } from './packs-source.ts'
import { decodePosition } from './position.ts'
import { rdmProfile } from './profile-rdm.ts'
import { DirectorySink } from './testing/directory-sink.ts'

const store = storeName('store')

/** What an engine of packs does, and what befalls its follower. */
type Step =
  | { readonly do: 'append'; readonly bytes: number }
  | { readonly do: 'roll' }
  | { readonly do: 'vacuum' }
  | { readonly do: 'index' }
  | { readonly do: 'read'; readonly entries: number }
  | { readonly do: 'restart' }

const steps: fc.Arbitrary<Step[]> = fc.array(
  fc.oneof(
    { weight: 5, arbitrary: fc.record({ do: fc.constant('append' as const), bytes: fc.nat(9000) }) },
    { weight: 3, arbitrary: fc.constant({ do: 'roll' as const }) },
    { weight: 2, arbitrary: fc.constant({ do: 'vacuum' as const }) },
    { weight: 1, arbitrary: fc.constant({ do: 'index' as const }) },
    { weight: 2, arbitrary: fc.record({ do: fc.constant('read' as const), entries: fc.nat(12) }) },
    { weight: 4, arbitrary: fc.constant({ do: 'read' as const, entries: Number.POSITIVE_INFINITY }) },
    { weight: 1, arbitrary: fc.constant({ do: 'restart' as const }) },
  ),
  { maxLength: 40 },
)

/** The engine's side: all packs that ever were, and which of them are still there. */
class Engine {
  readonly root: string
  readonly packs: Buffer[] = [Buffer.alloc(0)]
  lowest = 0
  #index = 0
  #bytes = 0

  constructor(root: string) {
    this.root = root
    fs.mkdirSync(root)
    fs.writeFileSync(this.path(0), '')
  }

  get newest(): number {
    return this.packs.length - 1
  }

  name(number: number): string {
    return `${String(number).padStart(4, '0')}.pack`
  }

  path(number: number): string {
    return join(this.root, this.name(number))
  }

  append(bytes: number): void {
    const data = Buffer.from(
      Array.from({ length: bytes }, () => (this.#bytes = (this.#bytes * 31 + 7) & 0xff)),
    )
    this.packs[this.newest] = Buffer.concat([this.packs[this.newest]!, data])
    fs.appendFileSync(this.path(this.newest), data)
  }

  roll(): void {
    this.packs.push(Buffer.alloc(0))
    fs.writeFileSync(this.path(this.newest), '')
  }

  vacuum(): void {
    if (this.lowest < this.newest) fs.unlinkSync(this.path(this.lowest++))
  }

  index(): void {
    fs.writeFileSync(join(this.root, 'x.idindex'), `index ${++this.#index}`)
  }
}

/** What holds for the copy after every single entry. */
function assertOrder(engine: Engine, copy: string): void {
  const numbers = fs
    .readdirSync(copy)
    .filter(name => name.endsWith('.pack'))
    .map(name => Number(name.slice(0, 4)))
    .sort((a, b) => a - b)
  for (const [index, number] of numbers.entries()) {
    if (index > 0) assert.equal(number, numbers[index - 1]! + 1, 'a hole in the sequence of the copy')
    const expected = engine.packs[number]!
    const found = fs.readFileSync(join(copy, engine.name(number)))
    if (number === numbers.at(-1)) {
      assert.ok(expected.subarray(0, found.length).equals(found), `pack ${number} is no prefix`)
    } else {
      assert.ok(expected.equals(found), `pack ${number} is not whole though ${number + 1} exists`)
    }
  }
}

test('whatever the engine does and wherever the follower stops, the copy is a prefix, and the source in the end', async () => {
  let skewMs = 0
  const clock: Clock = { ...systemClock, nowMs: () => systemClock.nowMs() + skewMs }
  await fc.assert(
    fc.asyncProperty(steps, async script => {
      const root = fs.mkdtempSync(join(tmpdir(), 'hotspare-order-'))
      const engine = new Engine(join(root, 'source'))
      const sink = new DirectorySink(join(root, 'copy'), {
        afterEntry: () => assertOrder(engine, sink.root),
      })
      const open = () =>
        PacksSource.open({
          storage: nodeStorage,
          clock,
          store,
          root: engine.root,
          profile: rdmProfile,
          onNotice: notice => assert.fail(notice.message),
        })
      const signal = new AbortController().signal
      let source = await open()
      /** False when the copy can't be continued, which must be true. */
      const read = async (entries: number): Promise<boolean> => {
        skewMs += 2000
        let taken = 0
        try {
          const from = await sink.position()
          for await (const entry of source.read(from, { signal, inventory: () => sink.inventory() })) {
            await sink.write(entry)
            if (++taken > entries) break
          }
        } catch (error) {
          assert.ok(error instanceof HotspareError && error.code === 'gap', String(error))
          const { newest } = decodePosition((await sink.position())!)
          assert.ok(newest!.path < engine.name(engine.lowest), 'a gap was reported where there is none')
          return false
        }
        if (taken > entries) sink.crash()
        return true
      }
      try {
        let continuous = true
        for (const step of script) {
          if (step.do === 'append') engine.append(step.bytes)
          else if (step.do === 'roll') engine.roll()
          else if (step.do === 'vacuum') engine.vacuum()
          else if (step.do === 'index') engine.index()
          else if (step.do === 'read') continuous = await read(step.entries)
          else {
            await source.close()
            source = await open()
          }
          if (!continuous) return
        }
        if (!(await read(Number.POSITIVE_INFINITY))) return
        assert.ok(await read(Number.POSITIVE_INFINITY))
        assert.deepEqual(fs.readdirSync(sink.root).sort(), fs.readdirSync(engine.root).sort())
        for (const name of fs.readdirSync(engine.root)) {
          const both = [engine.root, sink.root].map(directory => fs.readFileSync(join(directory, name)))
          assert.ok(both[0]!.equals(both[1]!), name)
        }
        assert.equal(sink.commits.at(-1)?.consistent, true)
      } finally {
        await source.close()
        fs.rmSync(root, { recursive: true })
      }
    }),
    { numRuns: Number(process.env.HOTSPARE_RUNS ?? 300) },
  )
})

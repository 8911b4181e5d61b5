/**
 * A machine that dies at each change of its disk in turn while it is promoted, hands over, or rejoins: started again and
 * told again, it comes to the same end, and nothing that one of them has is lost.
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { counting, crashAt } from './standby/crash-steps.ts'
import { type Host, pair, type World } from './standby/server-world.ts'

const { signal } = new AbortController()
/** Each is tried in one of these ways, in turn. */
const ways = ['nothing', 'part', 'all'] as const
/** Of all changes of the disk so many are tried, evenly. */
const triesMax = Number(process.env.HOTSPARE_CRASHES ?? 24)

interface Scene {
  readonly title: string
  prepare(world: World, a: Host, b: Host): Promise<void>
  readonly dies: 'a' | 'b'
  act(a: Host, b: Host): Promise<unknown>
  /** After the crash and the new start. */
  again(world: World, a: Host, b: Host): Promise<void>
}

const promotion = (planned: boolean) => ({ planned, dryRun: false, signal })

const scenes: readonly Scene[] = [
  {
    title: 'a standby that dies while it is promoted',
    dies: 'b',
    async prepare() {},
    act: (_a, b) => b.running.promote(promotion(false)),
    async again(world, _a, b) {
      const report = await world.of(b.running.promote(promotion(false)))
      assert.deepEqual(report.epoch, { number: 2, by: 'b' })
    },
  },
  {
    title: 'a standby that dies while its primary hands over to it',
    dies: 'b',
    async prepare() {},
    act: (_a, b) => b.running.promote(promotion(true)),
    async again(world, a, b) {
      await world.time.run(() => false, 30_000)
      const report = await world.of(b.running.promote(promotion(a.running.status().fencedBy === undefined)))
      assert.deepEqual(report.epoch, { number: 2, by: 'b' })
    },
  },
  {
    title: 'a primary that dies while it hands over',
    dies: 'a',
    async prepare() {},
    act: (_a, b) => b.running.promote(promotion(true)),
    async again(world, a, b) {
      // what is asked for goes on when it is there again, or has failed
      await world.time.run(() => b.running.status().role === 'primary', 300_000)
      if (b.running.status().role === 'standby') {
        assert.equal(a.running.status().fencedBy, undefined)
        await world.of(b.running.promote(promotion(true)))
      }
    },
  },
  {
    title: 'an old primary that dies while it rejoins',
    dies: 'a',
    async prepare(world, a, b) {
      await world.of(b.running.promote(promotion(false)))
      await world.until(() => a.running.status().fencedBy !== undefined, 'fenced')
      await a.write('only the old one 1')
    },
    act: a => a.running.rejoin('b', signal),
    async again(world, a) {
      if (a.running.status().role === 'primary') await world.of(a.running.rejoin('b', signal))
      const texts: string[] = []
      for (const name of await world.of(a.storage.list('/state/aside'))) {
        const path = `/state/aside/${name}`
        if (name.endsWith('.txlog')) texts.push(await readText(world, a, path))
        else if (name.startsWith('one')) texts.push(...(await a.textsAt(`${path}/one`)))
      }
      assert.ok(texts.join().includes('only the old one 1'), `${texts.length} files\n${a.said()}`)
    },
  },
]

async function readText(world: World, host: Host, path: string): Promise<string> {
  const { readTransactions } = await import('./standby/aside-file.ts')
  return world.of(readTransactions(host.storage, path))
}

async function ready(scene: Scene, seed: number) {
  const built = await pair(seed)
  const { world, a, b } = built
  await world.equal(a, b)
  await a.write('of both 1')
  await world.equal(a, b)
  await scene.prepare(world, a, b)
  return built
}

for (const scene of scenes) {
  test(`${scene.title} comes to the same end when it is started again`, async () => {
    const whole = await ready(scene, 1)
    const count = counting()
    whole[scene.dies].plan(count.plan)
    await whole.world.of(scene.act(whole.a, whole.b))
    await whole.world.time.run(() => false, 5_000)
    const changes = count.changes()
    assert.ok(changes > 10, `${changes} changes`)
    await whole.world.close()
    const tries = Math.min(triesMax, changes)
    for (let i = 0; i < tries; i++) {
      const at = Math.floor((i * changes) / tries)
      const { world, a, b } = await ready(scene, i + 1)
      const dying = scene.dies === 'a' ? a : b
      let died = false
      dying.plan(
        crashAt(at, ways[i % ways.length] as (typeof ways)[number], () => {
          died = true
        }),
      )
      const acting = scene.act(a, b).catch(() => undefined)
      await world.time.run(() => died, 30_000)
      dying.crash()
      await dying.start()
      await scene.again(world, a, b)
      const [primary, standby] = [b, a]
      await world.until(() => primary.running.status().role === 'primary', `primary after ${at}`)
      await world.until(
        () => standby.running.status().fencedBy !== undefined || standby.running.status().role === 'standby',
        `fenced after ${at}`,
      )
      if (standby.running.status().role === 'primary' && standby.running.status().fencedBy !== undefined) {
        // of a planned one by itself
        await world.time.run(() => standby.running.status().role === 'standby', 60_000)
        if (standby.running.status().role === 'primary') await world.of(standby.running.rejoin('b', signal))
      }
      await primary.write('of the new one 2')
      await world.equal(primary, standby)
      const texts = await standby.texts()
      assert.ok(texts.includes('of both 1') && texts.includes('of the new one 2'), texts.join())
      await world.close()
      void acting
    }
  })
}

import assert from 'node:assert/strict'
import * as fs from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, test } from 'node:test'
import { systemClock } from '../os/clock.ts'
import { nodeStorage } from '../os/node-storage.ts'
import { storeName } from '../stream/entry.ts'
import { readMeta, writeMeta } from './meta.ts'
import { isFollowed, openSidecar, whileStopped } from './sidecar.ts'
import { readStatusFile } from './status-file.ts'

let root: string
let target: string
beforeEach(async () => {
  root = await fs.mkdtemp(join(tmpdir(), 'hotspare-sidecar-'))
  target = join(root, 'copy')
})
afterEach(() => fs.rm(root, { recursive: true }))

test('a target has one follower; the next one may come when it has ended', async () => {
  const first = await openSidecar(nodeStorage, systemClock, target)
  await assert.rejects(openSidecar(nodeStorage, systemClock, target), { code: 'target-busy' })
  await first.close()
  const second = await openSidecar(nodeStorage, systemClock, target)
  await second.close()
})

test('only its owner may look into a sidecar', async () => {
  const sidecar = await openSidecar(nodeStorage, systemClock, target)
  assert.equal((await fs.stat(sidecar.path)).mode & 0o777, 0o700)
  await sidecar.close()
})

test('a follower is seen while it runs, and looking for it makes nothing', async () => {
  assert.equal(await isFollowed(nodeStorage, target), false)
  assert.deepEqual(await fs.readdir(root), [])
  const sidecar = await openSidecar(nodeStorage, systemClock, target)
  assert.equal(await isFollowed(nodeStorage, target), true)
  await sidecar.close()
  assert.equal(await isFollowed(nodeStorage, target), false)
})

test('a follower starts while others keep asking whether one runs', async () => {
  let asking = true
  const asker = (async () => {
    while (asking) await isFollowed(nodeStorage, target)
  })()
  for (let n = 0; n < 50; n++) await (await openSidecar(nodeStorage, systemClock, target)).close()
  asking = false
  await asker
})

test('what needs a stopped copy does not run beside a follower', async () => {
  const sidecar = await openSidecar(nodeStorage, systemClock, target)
  assert.equal(await whileStopped(nodeStorage, target, () => assert.fail('ran')), false)
  await sidecar.close()
  let ran = false
  const work = async () => {
    ran = await isFollowed(nodeStorage, target)
  }
  assert.equal(await whileStopped(nodeStorage, target, work), true)
  assert.equal(ran, true)
})

test('meta is read as it was written', async () => {
  const meta = {
    driver: 'packs',
    profile: 'generic',
    pattern: '*.seg',
    source: '/a b/ü',
    sourceReal: '/c',
    store: storeName('x'),
  }
  await fs.mkdir(`${target}.hotspare`)
  assert.equal(await readMeta(nodeStorage, `${target}.hotspare`), undefined)
  await writeMeta(nodeStorage, `${target}.hotspare`, meta)
  assert.deepEqual(await readMeta(nodeStorage, `${target}.hotspare`), meta)
})

const damages: readonly (readonly [what: string, text: string, code: string])[] = [
  ['of a later version', '{"format":2,"anything":true}', 'state-version'],
  ['cut short', '{"format":1,"dri', 'state-damaged'],
  ['empty', '', 'state-damaged'],
  ['without a driver', '{"format":1,"source":"/x","sourceReal":"/x","store":"x"}', 'state-damaged'],
]
for (const [what, text, code] of damages) {
  test(`meta that is ${what} is named, never guessed`, async () => {
    await fs.mkdir(`${target}.hotspare`)
    await fs.writeFile(`${target}.hotspare/meta.json`, text)
    await assert.rejects(readMeta(nodeStorage, `${target}.hotspare`), { code })
  })
}

test('a status that a power loss left empty or torn reads as none', async () => {
  await fs.mkdir(`${target}.hotspare`)
  for (const text of ['', '{"pid":', '{"pid":"x"}']) {
    await fs.writeFile(`${target}.hotspare/status.json`, text)
    assert.equal(await readStatusFile(nodeStorage, `${target}.hotspare`), undefined)
  }
})

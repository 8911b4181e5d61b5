import assert from 'node:assert/strict'
import * as fs from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { systemClock } from '../../os/clock.ts'
import { nodeStorage } from '../../os/node-storage.ts'
import type { Storage } from '../../os/storage.ts'
import { PackSet } from './pack-set.ts'
import { rdmProfile } from './profile-rdm.ts'

const signal = new AbortController().signal

/** An engine at work: `change` happens after each listing, and gives what the lister gets to see of it. */
function world(t: TestContext, names: string[], change: (root: string, names: string[]) => string[]) {
  const root = fs.mkdtempSync(join(tmpdir(), 'hotspare-pack-set-'))
  t.after(() => fs.rmSync(root, { recursive: true }))
  for (const name of names) fs.writeFileSync(join(root, name), name)
  const storage: Storage = {
    ...nodeStorage,
    list: async path => change(root, await nodeStorage.list(path)),
  }
  const open = (heldMax: number) => {
    const packs = new PackSet({ storage, clock: systemClock, root, profile: rdmProfile, heldMax })
    t.after(() => packs.close())
    return packs
  }
  return { root, open }
}

const numbered = (first: number, last: number) =>
  Array.from({ length: last - first + 1 }, (_, index) => `${String(first + index).padStart(4, '0')}.pack`)

test('packs that are made during every listing are found, each by the next look', async t => {
  let made = 3
  const { root, open } = world(t, numbered(1, 3), (root, names) => {
    fs.writeFileSync(join(root, numbered(++made, made)[0]!), 'new')
    return names
  })
  const packs = open(100)
  const first = await packs.scan(signal, true)
  assert.deepEqual(
    first?.packs.map(pack => pack.path),
    numbered(1, 3),
  )
  const second = await packs.scan(signal, false)
  assert.deepEqual(
    second?.packs.map(pack => pack.path),
    numbered(1, 5),
  )
  assert.equal(fs.readdirSync(root).length, 7)
})

test('a listing that missed a pack below its last one is not believed', async t => {
  let listings = 0
  const { open } = world(t, numbered(1, 4), (_root, names) =>
    ++listings === 1 ? names.filter(name => name !== '0003.pack') : names,
  )
  const scan = await open(100).scan(signal, true)
  assert.deepEqual(
    scan?.packs.map(pack => pack.path),
    numbered(1, 4),
  )
})

test('while packs are deleted during every listing all others are opened, and those stay readable', async t => {
  let deleted = 0
  const { root, open } = world(t, numbered(1, 40), (root, names) => {
    if (++deleted <= 30) fs.unlinkSync(join(root, numbered(deleted, deleted)[0]!))
    return names
  })
  const scan = await open(100).scan(signal, true)
  // the first was gone before it could be opened, and is no part of what this look found
  assert.deepEqual(
    scan?.packs.map(pack => pack.path),
    numbered(2, 40),
  )
  assert.ok(!fs.existsSync(join(root, '0002.pack')))
  const data = Buffer.alloc(20)
  const file = await scan!.packs[0]!.file()
  assert.equal(data.subarray(0, await file.read(data, 0)).toString(), '0002.pack')
})

test('no more packs are open than may be, the lowest first', async t => {
  const { open } = world(t, numbered(1, 10), (_root, names) => names)
  const scan = await open(4).scan(signal, true)
  assert.deepEqual(
    scan?.packs.filter(pack => pack.held).map(pack => pack.path),
    numbered(1, 4),
  )
})

import assert from 'node:assert/strict'
import * as fs from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, test } from 'node:test'
import { nodeStorage } from '../os/node-storage.ts'
import { realPath } from '../os/real-path.ts'
import { refuseOverlap } from './overlap.ts'

let root: string
beforeEach(async () => {
  root = await fs.realpath(await fs.mkdtemp(join(tmpdir(), 'hotspare-overlap-')))
  await fs.mkdir(join(root, 'store/deep'), { recursive: true })
  await fs.writeFile(join(root, 'app.db'), 'x')
})
afterEach(() => fs.rm(root, { recursive: true }))

async function overlap(source: string, target: string): Promise<void> {
  const [from, to] = await Promise.all([source, target].map(path => realPath(nodeStorage, join(root, path))))
  await refuseOverlap(nodeStorage, from!, to!)
}
const refused = { code: 'target-inside-source' }

const refusals: readonly (readonly [why: string, source: string, target: string])[] = [
  ['is the source', 'store', 'store'],
  ['lies inside it', 'store', 'store/copy'],
  ['lies deep inside it', 'store', 'store/deep/er/copy'],
  ['has it inside', 'store/deep', 'store'],
  ['is the source by another way of writing it', 'store', 'store/deep/../../store'],
  ['is the log of a one-file source', 'app.db', 'app.db-wal'],
  ['would keep its state where the source is', 'other.hotspare/db', 'other'],
]
for (const [why, source, target] of refusals) {
  test(`a target that ${why} is refused`, async () => {
    await assert.rejects(overlap(source, target), refused)
  })
}

test('a target that lies inside its source through a symbolic link is refused', async () => {
  await fs.symlink(join(root, 'store'), join(root, 'link'))
  await assert.rejects(overlap('store', 'link/copy'), refused)
  await assert.rejects(overlap('link', 'store/copy'), refused)
})

test('a target that is a hard link of its source is refused', async () => {
  await fs.link(join(root, 'app.db'), join(root, 'same.db'))
  await assert.rejects(overlap('app.db', 'same.db'), refused)
})

test('a name that only begins like the source is free', async () => {
  await overlap('store', 'store-copy')
  await overlap('app.db', 'app.db.copy')
})

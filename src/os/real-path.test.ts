import assert from 'node:assert/strict'
import * as fs from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, test } from 'node:test'
import { nodeStorage } from './node-storage.ts'
import { isWithin, realPath } from './real-path.ts'

let root: string
beforeEach(async () => {
  root = await fs.realpath(await fs.mkdtemp(join(tmpdir(), 'hotspare-real-path-')))
  await fs.mkdir(join(root, 'a/b'), { recursive: true })
})
afterEach(() => fs.rm(root, { recursive: true }))

test('links, relative and absolute, and dots are resolved as the system resolves them', async () => {
  await fs.symlink('../a', join(root, 'a/up'))
  await fs.symlink(join(root, 'a/b'), join(root, 'absolute'))
  for (const path of ['a/up/b', 'absolute', 'absolute/../up/b/.', 'a//b/', '.']) {
    assert.equal(await realPath(nodeStorage, `${root}/${path}`), await fs.realpath(`${root}/${path}`), path)
  }
  assert.equal(await realPath(nodeStorage, '/'), '/')
})

test('what does not exist yet stays below the part that does', async () => {
  await fs.symlink('a/new', join(root, 'dangling'))
  assert.equal(await realPath(nodeStorage, `${root}/a/b/c/d`), `${root}/a/b/c/d`)
  assert.equal(await realPath(nodeStorage, `${root}/dangling/x`), `${root}/a/new/x`)
})

test('links in a circle are an error, not a hang', async () => {
  await fs.symlink('two', join(root, 'one'))
  await fs.symlink('one', join(root, 'two'))
  await assert.rejects(realPath(nodeStorage, `${root}/one`), { code: 'io-error' })
})

test('within means whole parts of a path', () => {
  assert.equal(isWithin('/a/b', '/a'), true)
  assert.equal(isWithin('/a', '/a'), true)
  assert.equal(isWithin('/ab', '/a'), false)
  assert.equal(isWithin('/x', '/'), true)
})

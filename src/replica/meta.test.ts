import assert from 'node:assert/strict'
import * as fs from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { nodeStorage } from '../os/node-storage.ts'
import type { Storage } from '../os/storage.ts'
import { storeName } from '../stream/entry.ts'
import { type Meta, metaPath, putMetaAside, readMeta, writeMeta } from './meta.ts'

const meta: Meta = { driver: 'directory', source: '/srv/a', sourceReal: '/srv/a', store: storeName('a') }

const full: Storage = new Proxy(nodeStorage, {
  get: (target, name) => {
    if (name !== 'open') return Reflect.get(target, name)
    return (path: string, mode: Parameters<Storage['open']>[1]) => {
      if (mode !== 'read') throw Object.assign(new Error('ENOSPC'), { code: 'ENOSPC' })
      return target.open(path, mode)
    }
  },
})

test('on a full disk a copy is opened all the same, so that what filled it can be tidied up', async t => {
  const sidecar = fs.mkdtempSync(join(tmpdir(), 'hotspare-meta-'))
  t.after(() => fs.rmSync(sidecar, { recursive: true }))
  await writeMeta(nodeStorage, sidecar, meta)
  const before = fs.statSync(metaPath(sidecar))
  await writeMeta(full, sidecar, meta)
  assert.equal(fs.statSync(metaPath(sidecar)).ino, before.ino)
  await assert.rejects(writeMeta(full, sidecar, { ...meta, source: '/srv/link-to-a' }), { code: 'ENOSPC' })
  assert.deepEqual(await readMeta(nodeStorage, sidecar), meta)
})

test('what is put aside is no copy any more, and may be made one again', async t => {
  const sidecar = fs.mkdtempSync(join(tmpdir(), 'hotspare-meta-'))
  t.after(() => fs.rmSync(sidecar, { recursive: true }))
  await writeMeta(nodeStorage, sidecar, meta)
  await putMetaAside(nodeStorage, sidecar)
  await putMetaAside(nodeStorage, sidecar)
  assert.equal(await readMeta(nodeStorage, sidecar), undefined)
  await writeMeta(nodeStorage, sidecar, meta)
  assert.deepEqual(await readMeta(nodeStorage, sidecar), meta)
})

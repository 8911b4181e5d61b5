import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Entry, entryPath, position, storeName } from '../../stream/entry.ts'
import { BatchEncoder, decodeBatch } from './copy-batch.ts'

const store = storeName('tree')
const path = entryPath('a/b')
const long = entryPath(`${'d/'.repeat(1000)}${'ÿ'.repeat(200)}`)

/** As they are when all of them are used before the next. */
function decoded(encoder: BatchEncoder): Entry[] {
  const { batch, recycle } = encoder.finish()
  const entries: Entry[] = []
  for (const entry of decodeBatch(store, batch))
    entries.push(entry.type === 'write' ? { ...entry, data: Buffer.from(entry.data) } : entry)
  for (const give of recycle) give()
  return entries
}

const shared = Buffer.from(new SharedArrayBuffer(64))
shared.fill('shared')

const entries: readonly Entry[] = [
  { type: 'attributes', store, path: entryPath(''), mode: 0o755, mtimeNs: -1n },
  { type: 'write', store, path, offset: 2 ** 40, data: Buffer.from('own') },
  { type: 'write', store, path, offset: 0, data: shared.subarray(6, 18) },
  { type: 'attributes', store, path, mode: 0, uid: 0, gid: 2 ** 32 - 1, mtimeNs: 2n ** 63n - 1n },
  { type: 'attributes', store, path, gid: 7 },
  { type: 'attributes', store, path, uid: 2 ** 32 - 2, xattrs: {} },
  { type: 'remove', store, path },
  { type: 'write', store, path, offset: 3, data: Buffer.alloc(0) },
  { type: 'replace', store, path: long },
  { type: 'replaced', store, path: long },
  { type: 'node', store, path, node: { kind: 'symlink', target: 'ÿ' } },
  { type: 'attributes', store, path: long, mtimeNs: 0n, xattrs: { 'user.\xff': Buffer.from('v') } },
  { type: 'commit', store, position: position('p'), consistent: true, timeMs: 5 },
]

/** Without what makes two equal things differ: prototypes, kinds of arrays. */
function plain(all: readonly Entry[]): unknown {
  return all.map(entry => {
    const bytes = 'data' in entry ? { data: Buffer.from(entry.data).toString('hex') } : {}
    const xattrs =
      'xattrs' in entry && entry.xattrs !== undefined
        ? {
            xattrs: Object.entries(entry.xattrs).map(([name, value]) => [
              name,
              Buffer.from(value).toString(),
            ]),
          }
        : {}
    return { ...entry, ...bytes, ...xattrs }
  })
}

test('entries come out of a batch as they went in, in their order', () => {
  const encoder = new BatchEncoder()
  for (let batch = 0; batch < 3; batch++) {
    for (const entry of entries) encoder.add(entry)
    assert.deepEqual(plain(decoded(encoder)), plain(entries))
    assert.ok(encoder.isEmpty)
  }
})

test('a batch takes entries that are larger than its usual memory', () => {
  const encoder = new BatchEncoder()
  const value = Buffer.alloc(64 * 1024, 'x')
  const names = Array.from({ length: 20 }, (_, i) => [`user.${i}`, value])
  const large: Entry[] = [
    { type: 'attributes', store, path, xattrs: Object.fromEntries(names) },
    { type: 'attributes', store, path, mode: 1 },
    ...Array.from({ length: 200 }, (_, i): Entry => {
      return { type: 'replace', store, path: entryPath(`${i}/${long}`) }
    }),
  ]
  for (const entry of large) encoder.add(entry)
  assert.deepEqual(plain(decoded(encoder)), plain(large))
})

test('memory that is used again is given out only when its batch was written', () => {
  const encoder = new BatchEncoder()
  const given: { batch: ReturnType<BatchEncoder['finish']>['batch']; path: string }[] = []
  for (let i = 0; i < 10; i++) {
    encoder.add({ type: 'remove', store, path: entryPath(`file-${i}`) })
    given.push({ batch: encoder.finish().batch, path: `file-${i}` })
  }
  for (const { batch, path } of given)
    assert.deepEqual([...decodeBatch(store, batch)], [{ type: 'remove', store, path }])
})

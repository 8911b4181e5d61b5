import assert from 'node:assert/strict'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { HotspareError } from '../os/errors.ts'
import { nodeStorage } from '../os/node-storage.ts'
import { fc } from '../os/testing/properties.ts'
import { decodeEntry, encodeEntry } from './codec.ts'
import { type Entry, entryPath, position, type StateDigest, storeName } from './entry.ts'
import { type FramesEnd, frameHeaderBytes, readFrame, readFrames } from './frame.ts'

const latin1 = (min: number, max: number) =>
  fc
    .array(fc.integer({ min: 1, max: 255 }), { minLength: min, maxLength: max })
    .map(codes => String.fromCharCode(...codes))
const part = latin1(1, 12).filter(text => text !== '.' && text !== '..' && !text.includes('/'))
const path = fc.array(part, { maxLength: 4 }).map(parts => entryPath(parts.join('/')))
const store = fc.stringMatching(/^[A-Za-z0-9._-]{1,64}$/).map(storeName)
const size = fc.maxSafeNat()
const data = fc.uint8Array({ maxLength: 200 }).map(bytes => Buffer.from(bytes))
const wellFormed = fc.string({ unit: 'grapheme', minLength: 1, maxLength: 50 })
const id = fc.nat({ max: 2 ** 32 - 2 })
const present = <T extends object>(value: T) =>
  Object.fromEntries(Object.entries(value).filter(([, field]) => field !== undefined)) as T

const node = fc.oneof(
  fc.constant({ kind: 'directory' as const }),
  fc.record({ kind: fc.constant('symlink' as const), target: latin1(0, 30) }),
  fc.record({ kind: fc.constant('hardlink' as const), to: path }),
)
const xattrs = fc.dictionary(latin1(1, 20), data, { maxKeys: 4, noNullPrototype: true })
const entry: fc.Arbitrary<Entry> = fc.oneof(
  fc
    .record({ store, path, offset: fc.nat({ max: 2 ** 40 }), data })
    .map(fields => ({ type: 'write' as const, ...fields })),
  fc.record({ store, path, size }).map(fields => ({ type: 'truncate' as const, ...fields })),
  fc
    .record({ type: fc.constantFrom('replace', 'replaced', 'remove'), store, path })
    .map(fields => fields as Entry),
  fc.record({ store, path, to: path }).map(fields => ({ type: 'rename' as const, ...fields })),
  fc.record({ store, path, node }).map(fields => ({ type: 'node' as const, ...fields })),
  fc
    .record({
      store,
      path,
      mode: fc.option(fc.nat({ max: 0o7777 }), { nil: undefined }),
      uid: fc.option(id, { nil: undefined }),
      gid: fc.option(id, { nil: undefined }),
      mtimeNs: fc.option(fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }), { nil: undefined }),
      xattrs: fc.option(xattrs, { nil: undefined }),
    })
    .map(fields => ({ type: 'attributes', ...present(fields) }) as Entry),
  fc
    .record({ store, path, key: data, value: fc.option(data, { nil: undefined }) })
    .map(fields => ({ type: 'record', ...present(fields) }) as Entry),
  fc
    .record({
      store,
      position: wellFormed.map(position),
      consistent: fc.boolean(),
      timeMs: fc.double({ noNaN: true, noDefaultInfinity: true }),
      state: fc.option(wellFormed as unknown as fc.Arbitrary<StateDigest>, { nil: undefined }),
    })
    .map(fields => ({ type: 'commit', ...present(fields) }) as Entry),
)

function plain(value: Entry): unknown {
  return JSON.parse(
    JSON.stringify(value, (_, field) =>
      typeof field === 'bigint' ? `${field}n` : Object.is(field, -0) ? '-0' : field,
    ),
  )
}

test('every entry comes back as it went', () => {
  fc.assert(
    fc.property(entry, one => {
      const frame = readFrame(encodeEntry(one), 0)
      assert.equal(frame.kind, 'frame')
      assert.deepEqual(plain(decodeEntry(frame.payload)), plain(one))
    }),
    { numRuns: 2000 },
  )
})

test('a flipped bit anywhere is damage, or a torn end, and never another entry', () => {
  fc.assert(
    fc.property(entry, fc.nat(), fc.nat({ max: 7 }), (one, where, bit) => {
      const bytes = encodeEntry(one)
      const at = where % bytes.length
      bytes[at] = (bytes[at] as number) ^ (1 << bit)
      const found = readFrame(bytes, 0)
      assert.equal(found.kind, 'damaged', `byte ${at}`)
    }),
    { numRuns: 3000 },
  )
})

test('a frame cut short anywhere is a torn end, and says how much is missing', () => {
  fc.assert(
    fc.property(entry, fc.nat(), (one, where) => {
      const bytes = encodeEntry(one)
      const cut = where % bytes.length
      const found = readFrame(bytes.subarray(0, cut), 0)
      assert.equal(found.kind, 'end')
      assert.ok(found.missingBytes > 0 && found.missingBytes <= bytes.length - cut)
    }),
    { numRuns: 1000 },
  )
})

test('bytes that were never encoded are an error with a code, or decode to what encodes to the same bytes', () => {
  fc.assert(
    fc.property(
      fc.uint8Array({ minLength: 1, maxLength: 80 }),
      fc.integer({ min: 0, max: 15 }),
      (bytes, type) => {
        bytes[0] = 16 + type
        let decoded: Entry
        try {
          decoded = decodeEntry(bytes)
        } catch (error) {
          assert.ok(error instanceof HotspareError && error.code === 'entry-invalid', String(error))
          return
        }
        assert.deepEqual(encodeEntry(decoded).subarray(frameHeaderBytes), Buffer.from(bytes))
      },
    ),
    { numRuns: 5000 },
  )
})

const refused: Record<string, Entry> = {
  'a path that leaves its store': { type: 'remove', store: storeName('a'), path: '../b' as never },
  'an absolute path': { type: 'remove', store: storeName('a'), path: '/etc/passwd' as never },
  'a rename out of the store': {
    type: 'rename',
    store: storeName('a'),
    path: 'b' as never,
    to: 'c/../../d' as never,
  },
  'a hard link to outside': {
    type: 'node',
    store: storeName('a'),
    path: 'b' as never,
    node: { kind: 'hardlink', to: '..' as never },
  },
  'a name of a store that is none': { type: 'remove', store: '../x' as never, path: entryPath('b') },
}
for (const [what, bad] of Object.entries(refused)) {
  test(`${what} is refused when it is decoded`, () => {
    const frame = readFrame(encodeEntry(bad), 0)
    assert.equal(frame.kind, 'frame')
    assert.throws(() => decodeEntry(frame.payload), { code: 'entry-invalid' })
  })
}

test('a file of frames is read to its last whole frame, whatever comes after', async t => {
  const directory = await mkdtemp(join(tmpdir(), 'hotspare-codec-'))
  t.after(() => rm(directory, { recursive: true }))
  const frames = Array.from({ length: 40 }, (_, i) =>
    encodeEntry({
      type: 'write',
      store: storeName('a'),
      path: entryPath('f'),
      offset: i,
      data: Buffer.alloc(70_000, i),
    }),
  )
  const whole = Buffer.concat(frames)
  const damaged = Buffer.concat([
    ...frames,
    encodeEntry({ type: 'remove', store: storeName('a'), path: entryPath('f') }),
  ])
  damaged[damaged.length - 1]! ^= 1
  const cases: Record<string, { bytes: Buffer; end: FramesEnd['kind'] }> = {
    nothing: { bytes: whole, end: 'whole' },
    'a torn frame': { bytes: Buffer.concat([whole, frames[0]!.subarray(0, 50_000)]), end: 'torn' },
    'a torn header': { bytes: Buffer.concat([whole, frames[0]!.subarray(0, 7)]), end: 'torn' },
    'a damaged frame': { bytes: damaged, end: 'damaged' },
    zeros: { bytes: Buffer.concat([whole, Buffer.alloc(100)]), end: 'damaged' },
  }
  for (const [what, { bytes, end }] of Object.entries(cases)) {
    const path = join(directory, 'frames')
    await writeFile(path, bytes)
    const file = await nodeStorage.open(path, 'read')
    const reading = readFrames(file, 0)
    let count = 0
    let step = await reading.next()
    for (; !step.done; step = await reading.next()) {
      const found = decodeEntry(step.value.payload)
      assert.ok(found.type === 'write' && found.offset === count && found.data[0] === count)
      count++
    }
    await file.close()
    assert.deepEqual([count, step.value.kind, step.value.offset], [40, end, whole.length], what)
  }
})

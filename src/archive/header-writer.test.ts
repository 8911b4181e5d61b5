/** Headers that are made in place of those before them, beside those that are made by themselves. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { blake3 } from '@napi-rs/blake-hash'
import fc from 'fast-check'
import type { SnapshotFile } from '../drivers/snapshot.ts'
import { entryPath } from '../stream/entry.ts'
import { HeaderWriter } from './header-writer.ts'
import { TarReader } from './tar-reader.ts'

const character = fc.oneof(
  { weight: 30, arbitrary: fc.integer({ min: 0x21, max: 0x7e }) },
  { weight: 1, arbitrary: fc.integer({ min: 0x7f, max: 0xff }) },
)
const path = fc
  .array(character, { minLength: 1, maxLength: 110 })
  .map(codes => entryPath(String.fromCharCode(...codes).replace(/[./]/g, '-')))
const seconds = fc.oneof(fc.integer({ min: 0, max: 2 ** 33 + 2 }), fc.constantFrom(0, 9, 10, 999_999_999))
const fraction = fc.oneof(
  fc.integer({ min: 0, max: 999_999_999 }),
  fc.constantFrom(0, 1, 10, 120_000_000, 900_000_000, 999_999_999),
)
const id = fc.oneof(fc.constantFrom(0, 1000), fc.integer({ min: 0, max: 2 ** 21 + 1 }))
const file = fc
  .record({
    path,
    mode: fc.oneof(fc.constant(0o644), fc.integer({ min: 0, max: 0o7777 })),
    uid: id,
    gid: id,
    mtimeSeconds: fc.oneof(seconds, fc.integer({ min: -100, max: -1 })),
    mtimeNanoseconds: fraction,
    size: fc.oneof(fc.integer({ min: 0, max: 1000 }), fc.integer({ min: 0, max: 2 ** 33 + 2 })),
    digest: fc.integer(),
  })
  .map(
    ({ digest, ...given }): SnapshotFile => ({
      ...given,
      kind: 'file',
      xattrs: undefined,
      digests: given.size === 0 ? new Uint8Array() : blake3(Buffer.from(String(digest))),
      extents: undefined,
      content: undefined,
      stream: undefined,
    }),
  )

/** A member with an attribute is never of the usual kind, and has but one record more. */
function headersOf(files: readonly SnapshotFile[]): Buffer[] {
  const writer = new HeaderWriter('own')
  writer.begin()
  return files.map(given => Buffer.from(writer.member(given).bytes))
}

test('a header does not depend on those before it, but for its chain', () => {
  fc.assert(
    fc.property(fc.array(file, { minLength: 2, maxLength: 20 }), files => {
      const together = headersOf(files)
      for (const [i, header] of together.entries()) {
        const [alone] = headersOf(files.slice(i, i + 1))
        assert.deepEqual(withoutChain(header), withoutChain(alone as Buffer), `file ${i}`)
      }
    }),
  )
})

test('a file is read from its header as it was given, whatever was made before it', () => {
  fc.assert(
    fc.property(fc.array(file, { minLength: 1, maxLength: 20 }), files => {
      const empty = files.map(given => ({ ...given, size: 0, digests: new Uint8Array() }))
      const writer = new HeaderWriter('own')
      const bytes = [Buffer.from(writer.begin())]
      for (const given of empty) bytes.push(Buffer.from(writer.member(given).bytes))
      bytes.push(Buffer.from(writer.end()))
      const members: object[] = []
      const faults: unknown[] = []
      const reader = new TarReader({
        onMember: ({ path: name, mode, uid, gid, mtimeSeconds, mtimeNanoseconds }) =>
          members.push({ path: name.slice(2), mode, uid, gid, mtimeSeconds, mtimeNanoseconds }),
        onFault: fault => faults.push(fault),
      })
      // from bytes of any piece the general way is taken
      for (const part of bytes) reader.push(part)
      assert.deepEqual(faults, [])
      assert.deepEqual(
        members,
        empty.map(({ path: name, mode, uid, gid, mtimeSeconds, mtimeNanoseconds }) => ({
          path: name,
          mode,
          uid,
          gid,
          mtimeSeconds,
          mtimeNanoseconds,
        })),
      )
    }),
  )
})

function withoutChain(header: Buffer): string {
  return header.toString('latin1').replace(/ comment=hotspare1 [0-9a-f]{16} /, ' comment=hotspare1 ')
}

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { blake3 } from '@napi-rs/blake-hash'
import type { Snapshot, SnapshotEntry } from '../../drivers/snapshot.ts'
import { fc } from '../../os/testing/properties.ts'
import { type Entry, entryPath, position, storeName } from '../../stream/entry.ts'
import type { Inventory } from '../../stream/sink.ts'
import { SnapshotSource } from './snapshot-source.ts'

const store = storeName('one')
const at = position('{"end":7}')

type Node =
  | { readonly kind: 'file'; readonly bytes: string; readonly holeFrom?: number; readonly holeTo?: number }
  | { readonly kind: 'directory' }
  | { readonly kind: 'symlink'; readonly target: string }
type Tree = Map<string, Node>

const metadata = { mode: 0o640, uid: 0, gid: 0, mtimeSeconds: 5, mtimeNanoseconds: 7, xattrs: undefined }

/** In pieces of so many bytes, of which each is void when the next is asked for. */
function snapshotOf(tree: Tree, pieceBytes: number): Snapshot {
  const entries = [...tree]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, node]): SnapshotEntry => {
      const path = entryPath(name)
      if (node.kind === 'directory') return { kind: 'directory', path, ...metadata }
      if (node.kind === 'symlink') return { kind: 'symlink', path, target: node.target, ...metadata }
      const bytes = Buffer.from(node.bytes)
      const from = Math.min(node.holeFrom ?? bytes.length, bytes.length)
      const to = Math.max(from, Math.min(node.holeTo ?? bytes.length, bytes.length))
      const extents = [
        { offset: 0, length: from },
        { offset: to, length: bytes.length - to },
      ].filter(({ length }) => length > 0)
      const content = Buffer.concat([bytes.subarray(0, from), bytes.subarray(to)])
      async function* stream() {
        const piece = Buffer.alloc(pieceBytes)
        for (let i = 0; i < content.length; i += pieceBytes) {
          const length = content.copy(piece, 0, i)
          yield piece.subarray(0, length)
          piece.fill('!')
        }
      }
      const hasHole = from < to
      return {
        kind: 'file',
        path,
        ...metadata,
        size: bytes.length,
        digests: new Uint8Array(),
        extents: hasHole ? extents : undefined,
        content: undefined,
        stream,
      }
    })
  return {
    commit: { position: at, timeMs: 1 },
    consistent: true,
    totalBytes: 0,
    totalEntries: entries.length,
    async *batches() {
      for (const entry of entries) yield { entries: [entry], release() {} }
    },
    close: async () => {},
  }
}

/** As the snapshot has it: holes are zeros. */
function asRead(tree: Tree): Map<string, string> {
  return new Map(
    [...tree].sort().map(([name, node]) => {
      if (node.kind !== 'file') return [name, node.kind === 'symlink' ? `-> ${node.target}` : '/']
      const bytes = Buffer.from(node.bytes)
      const from = Math.min(node.holeFrom ?? bytes.length, bytes.length)
      bytes.fill(0, from, Math.max(from, Math.min(node.holeTo ?? bytes.length, bytes.length)))
      return [name, bytes.toString('latin1')]
    }),
  )
}

function inventoryOf(held: Map<string, string>, blockBytes: number): Inventory {
  const isFile = (text: string) => text !== '/' && !text.startsWith('-> ')
  const names = [...held.keys()].sort()
  return {
    async *files() {
      for (const name of names) {
        const bytes = Buffer.from(held.get(name) as string, 'latin1')
        if (!isFile(held.get(name) as string)) continue
        yield {
          path: entryPath(name),
          size: bytes.length,
          blockBytes,
          digest: 'blake3-256' as const,
          digests: async (first: number, count: number) =>
            Buffer.concat(
              Array.from({ length: count }, (_, i) => (first + i) * blockBytes)
                .filter(offset => offset < bytes.length)
                .map(offset => blake3(bytes.subarray(offset, offset + blockBytes))),
            ),
        }
      }
    },
    file: async () => undefined,
    async *others() {
      for (const name of names) {
        const text = held.get(name) as string
        if (!isFile(text))
          yield { path: entryPath(name), kind: text === '/' ? 'directory' : 'symlink' } as const
      }
    },
  }
}

function apply(held: Map<string, string>, entry: Entry): void {
  switch (entry.type) {
    case 'write': {
      const before = held.get(entry.path) ?? ''
      assert(before !== '/' && !before.startsWith('-> '), `a write to ${entry.path}, which is no file`)
      const bytes = Buffer.from(before.padEnd(entry.offset + entry.data.length, '\0'), 'latin1')
      bytes.set(entry.data, entry.offset)
      held.set(entry.path, bytes.toString('latin1'))
      return
    }
    case 'truncate':
      held.set(entry.path, (held.get(entry.path) as string).slice(0, entry.size))
      return
    case 'remove':
      for (const name of [...held.keys()])
        if (name === entry.path || name.startsWith(`${entry.path}/`)) held.delete(name)
      return
    case 'node':
      assert(entry.node.kind !== 'hardlink')
      held.set(entry.path, entry.node.kind === 'directory' ? '/' : `-> ${entry.node.target}`)
      return
    case 'attributes':
      assert(held.has(entry.path) || entry.path === '', `attributes of ${entry.path}, which is not there`)
      return
    default:
      assert.equal(entry.type, 'commit')
  }
}

const bytes = fc.string({ maxLength: 23, unit: fc.constantFrom('a', 'b') })
const node: fc.Arbitrary<Node> = fc.oneof(
  fc
    .record({ bytes, holeFrom: fc.nat(20), holeTo: fc.nat(20) })
    .map(file => ({ kind: 'file', ...file }) as const),
  bytes.map(text => ({ kind: 'file', bytes: text }) as const),
  fc.constantFrom({ kind: 'directory' } as const, { kind: 'symlink', target: 'x' } as const),
)
const tree: fc.Arbitrary<Tree> = fc
  .record({
    a: fc.option(node),
    'd-': fc.option(node),
    d: fc.option(node),
    x: fc.option(node),
    y: fc.option(node),
  })
  .map(({ a, 'd-': dash, d, x, y }) => {
    const below = d?.kind === 'directory' ? { 'd/x': x, 'd/y': y } : {}
    const all: Record<string, Node | null> = { a, 'd-': dash, d, ...below }
    return new Map(Object.entries(all).filter((pair): pair is [string, Node] => pair[1] !== null))
  })

async function read(source: SnapshotSource, inventory: Inventory | undefined): Promise<Entry[]> {
  const signal = new AbortController().signal
  const entries: Entry[] = []
  for await (const entry of source.read(undefined, { signal, inventory: async () => inventory }))
    entries.push(entry)
  return entries
}

function sourceOf(snapshot: Snapshot): SnapshotSource {
  return new SnapshotSource({ store, snapshot })
}

test('whatever a downstream has, it is made equal to the frozen state, by one transaction that ends at its position', async () => {
  await fc.assert(
    fc.asyncProperty(
      tree,
      fc.option(tree),
      fc.constantFrom(4, 7),
      fc.integer({ min: 1, max: 9 }),
      async (frozen, before, blockBytes, pieceBytes) => {
        const held = before === null ? new Map<string, string>() : asRead(before)
        const inventory = before === null ? undefined : inventoryOf(new Map(held), blockBytes)
        const entries = await read(sourceOf(snapshotOf(frozen, pieceBytes)), inventory)
        for (const entry of entries) apply(held, entry)
        assert.deepEqual(new Map([...held].sort()), asRead(frozen))
        const commits = entries.filter(entry => entry.type === 'commit')
        assert.deepEqual(commits, [entries.at(-1)])
        assert.equal(commits[0]?.position, at)
      },
    ),
    { numRuns: 1000 },
  )
})

test('of what a downstream has already no content is sent', async () => {
  await fc.assert(
    fc.asyncProperty(tree, async frozen => {
      const inventory = inventoryOf(asRead(frozen), 4)
      const entries = await read(sourceOf(snapshotOf(frozen, 5)), inventory)
      assert(entries.every(({ type }) => type !== 'write' && type !== 'truncate'))
    }),
  )
})

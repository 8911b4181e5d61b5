import assert from 'node:assert/strict'
import { test } from 'node:test'
import { blake3 } from '@napi-rs/blake-hash'
import { fc } from '../../os/testing/properties.ts'
import { type EntryPath, entryPath } from '../../stream/entry.ts'
import type { Inventory, InventoryFile, InventoryNode } from '../../stream/sink.ts'
import { MergedInventory } from './merged-inventory.ts'

const blockBytes = 4

type Node = { readonly kind: 'file'; readonly bytes: string } | { readonly kind: InventoryNode['kind'] }
type Copy = Map<string, Node>

function inventoryOf(copy: Copy): Inventory {
  const paths = [...copy.keys()].sort()
  const fileOf = (path: string): InventoryFile | undefined => {
    const node = copy.get(path)
    if (node?.kind !== 'file') return undefined
    const bytes = Buffer.from((node as { bytes: string }).bytes)
    return {
      path: entryPath(path),
      size: bytes.length,
      blockBytes,
      digest: 'blake3-256',
      digests: async (first, count) =>
        Buffer.concat(
          Array.from({ length: count }, (_, i) => (first + i) * blockBytes)
            .filter(at => at < bytes.length)
            .map(at => blake3(bytes.subarray(at, at + blockBytes))),
        ),
    }
  }
  return {
    async *files() {
      for (const path of paths) {
        const file = fileOf(path)
        if (file !== undefined) yield file
      }
    },
    file: async path => fileOf(path),
    async *others() {
      for (const path of paths) {
        const kind = copy.get(path)?.kind
        if (kind !== undefined && kind !== 'file') yield { path: entryPath(path), kind }
      }
    },
  }
}

function remove(copy: Copy, path: string): void {
  for (const key of [...copy.keys()]) if (key === path || key.startsWith(`${path}/`)) copy.delete(key)
}

/** What a source that compares would send to make what the inventory says equal to `source`, put into a copy. */
async function difference(inventory: Inventory, source: Copy): Promise<((copy: Copy) => void)[]> {
  const sent: ((copy: Copy) => void)[] = []
  const known = new Map<string, InventoryFile | InventoryNode['kind']>()
  for await (const file of inventory.files()) known.set(file.path, file)
  for await (const { path, kind } of inventory.others?.() ?? []) known.set(path, kind)
  for (const path of known.keys()) if (!source.has(path)) sent.push(copy => remove(copy, path))
  for (const [path, node] of source) {
    const had = known.get(path)
    if (node.kind !== 'file') {
      if (had !== node.kind) sent.push(copy => copy.set(path, node))
      continue
    }
    const bytes = Buffer.from((node as { bytes: string }).bytes)
    const file = typeof had === 'object' ? had : undefined
    if (file === undefined) sent.push(copy => copy.set(path, { kind: 'file', bytes: '' }))
    for (let at = 0; at < bytes.length; at += blockBytes) {
      const block = bytes.subarray(at, at + blockBytes)
      const isSame =
        file !== undefined &&
        Math.min(blockBytes, file.size - at) === block.length &&
        blake3(block).equals(Buffer.from(await file.digests(at / blockBytes, 1)))
      if (!isSame)
        sent.push(copy => copy.set(path, { kind: 'file', bytes: written(copy.get(path), at, block) }))
    }
    if (file !== undefined && file.size > bytes.length) {
      sent.push(copy => {
        const held = copy.get(path) as { bytes: string }
        copy.set(path, { kind: 'file', bytes: held.bytes.slice(0, bytes.length) })
      })
    }
  }
  return sent
}

function written(node: Node | undefined, at: number, block: Buffer): string {
  assert(node?.kind === 'file', 'a write to what is no file')
  const before = (node as { bytes: string }).bytes.padEnd(at, '\0')
  return before.slice(0, at) + block.toString() + before.slice(at + block.length)
}

const content = fc.string({ minLength: 0, maxLength: 11, unit: fc.constantFrom('a', 'b') })
const node: fc.Arbitrary<Node> = fc.oneof(
  { weight: 4, arbitrary: content.map(bytes => ({ kind: 'file', bytes }) as const) },
  { weight: 1, arbitrary: fc.constantFrom({ kind: 'symlink' } as const, { kind: 'directory' } as const) },
)
/** Some paths are before and behind 'd/' in the order of bytes. */
const tree: fc.Arbitrary<Copy> = fc
  .record({
    a: fc.option(node),
    'd-': fc.option(node),
    d: fc.option(node),
    x: fc.option(node),
    y: fc.option(node),
  })
  .map(({ a, 'd-': dash, d, x, y }) => {
    const copy: Copy = new Map()
    if (a !== null) copy.set('a', a)
    if (dash !== null) copy.set('d-', dash)
    if (d !== null) copy.set('d', d)
    if (d?.kind !== 'directory') return copy
    if (x !== null) copy.set('d/x', x)
    if (y !== null) copy.set('d/y', y)
    return copy
  })

test('what a source sends by comparing with several copies at once makes each of them equal to it', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(tree, { minLength: 1, maxLength: 3 }), tree, async (copies, source) => {
      const merged = new MergedInventory(copies.map(inventoryOf))
      const leftovers: { readonly path: EntryPath; readonly copies: readonly number[] }[] = []
      for await (const leftover of merged.leftovers()) leftovers.push(leftover)
      const sent = await difference(merged, source)
      for (const { path, copies: held } of leftovers) for (const i of held) remove(copies[i] as Copy, path)
      for (const copy of copies) for (const change of sent) change(copy)
      for (const copy of copies) assert.deepEqual(new Map([...copy].sort()), new Map([...source].sort()))
    }),
    { numRuns: 1000 },
  )
})

test('nothing that all copies have the same is sent again', async () => {
  await fc.assert(
    fc.asyncProperty(tree, async copy => {
      const merged = new MergedInventory([inventoryOf(copy), inventoryOf(copy)])
      for await (const leftover of merged.leftovers()) assert.fail(leftover.path)
      assert.equal((await difference(merged, copy)).length, 0)
    }),
  )
})

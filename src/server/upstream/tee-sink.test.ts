import assert from 'node:assert/strict'
import test from 'node:test'
import { type Entry, entryPath, type Position, storeName } from '../../stream/entry.ts'
import type { Inventory, InventoryNode } from '../../stream/sink.ts'
import type { RemoteSink } from './remote-sink.ts'
import { TeeSink } from './tee-sink.ts'

const store = storeName('s')

function copy(others: readonly InventoryNode[] | undefined): { sink: RemoteSink; written: Entry[] } {
  const written: Entry[] = []
  const inventory: Inventory | undefined = others && {
    async *files() {},
    file: async () => undefined,
    async *others() {
      yield* others
    },
  }
  const sink: Partial<RemoteSink> = {
    inventory: async () => inventory,
    write: async entry => {
      written.push(entry)
    },
  }
  return { sink: sink as RemoteSink, written }
}

function teeOf(copies: readonly { readonly sink: RemoteSink }[], position: Position | undefined): TeeSink {
  return new TeeSink({
    store,
    sinks: copies.map(({ sink }) => sink),
    position,
    compares: position === undefined,
    onFault: () => assert.fail('nobody fails'),
  })
}

test('when somebody has nothing yet, the others give up all that they have: files, links and directories', async () => {
  const one = copy([
    { path: entryPath('d'), kind: 'directory' },
    { path: entryPath('d/below'), kind: 'directory' },
    { path: entryPath('link'), kind: 'symlink' },
  ])
  const other = copy(undefined)
  const tee = teeOf([one, other], undefined)
  assert.equal(await tee.inventory(store), undefined)
  assert.deepEqual(one.written, [
    { type: 'remove', store, path: 'd' },
    { type: 'remove', store, path: 'link' },
  ])
  assert.deepEqual(other.written, [])
})

test('a source that goes on from where all stand is told to compare when they have what the inventory leaves out', async () => {
  const link = [{ path: entryPath('second name'), kind: 'hardlink' }] as const
  const [one, other] = [copy(link), copy(link)]
  const tee = teeOf([one, other], 'p' as Position)
  await assert.rejects(tee.inventory(store), { code: 'diverged' })
  const looked = await tee.inventory(store, 'verification')
  assert.deepEqual(await listed(looked?.others?.()), [])
  assert.deepEqual([...one.written, ...other.written], [])
})

test('a source that goes on from where all stand sees what they have, and nothing is removed', async () => {
  const nodes = [{ path: entryPath('d'), kind: 'directory' }] as const
  const [one, other] = [copy(nodes), copy(nodes)]
  const tee = teeOf([one, other], 'p' as Position)
  assert.deepEqual(await listed((await tee.inventory(store))?.others?.()), nodes)
  assert.deepEqual([...one.written, ...other.written], [])
})

async function listed(nodes: AsyncIterable<InventoryNode> | undefined): Promise<InventoryNode[]> {
  const all: InventoryNode[] = []
  for await (const node of nodes ?? []) all.push(node)
  return all
}

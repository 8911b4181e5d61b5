import assert from 'node:assert/strict'
import fs from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { StatBuffer } from '../../os/stat-buffer.ts'
import { fc } from '../../os/testing/properties.ts'
import { cName, openRoot, statAt } from '../../os/tree-calls.ts'
import {
  BlockBuilder,
  mergeBlock,
  type NewEntry,
  Signature,
  signatureMatches,
  type TreeBlock,
} from './tree-block.ts'
import { TreeFile, TreeIndex } from './tree-index.ts'
import { loadTree } from './tree-load.ts'

function scratch(t: TestContext): string {
  const path = fs.mkdtempSync(join(tmpdir(), 'hotspare-tree-index-'))
  t.after(() => fs.rmSync(path, { recursive: true, force: true }))
  return path
}

function entry(name: string, seed = 1, payload = `${name}!`): NewEntry {
  const words = Int32Array.from({ length: 16 }, (_, i) => Math.imul(seed + i, 2654435761))
  return {
    name,
    signature: new Signature(words),
    payload: Buffer.from(payload, 'latin1'),
    flags: seed & 0xff,
    hint: seed,
  }
}

function read(block: TreeBlock | undefined): Map<string, string> {
  const entries = new Map<string, string>()
  for (let i = 0; block !== undefined && i < block.count; i++) {
    const words = [...block.words.subarray(block.wordOf(i), block.wordOf(i) + 16)]
    const rest = [block.flags(i), block.hint(i), block.payload(i).toString('latin1')]
    entries.set(block.name(i), JSON.stringify([words, rest]))
  }
  return entries
}

const latin1Name = fc
  .array(fc.integer({ min: 1, max: 255 }), { minLength: 1, maxLength: 12 })
  .map(bytes => String.fromCharCode(...bytes))

test('a block gives what was put in, by number and by name, in the order of bytes', () => {
  const steps = fc.array(fc.dictionary(latin1Name, fc.option(fc.nat(1000))), { maxLength: 6 })
  fc.assert(
    fc.property(steps, changes => {
      let block: TreeBlock | undefined
      const model = new Map<string, NewEntry>()
      for (const step of changes) {
        const given = new Map<string, NewEntry | undefined>()
        for (const [name, seed] of Object.entries(step)) {
          const value = seed === null ? undefined : entry(name, seed)
          given.set(name, value)
          if (value === undefined) model.delete(name)
          else model.set(name, value)
        }
        block = mergeBlock(block, given)
      }
      const sorted = [...model.keys()].sort((a, b) =>
        Buffer.compare(Buffer.from(a, 'latin1'), Buffer.from(b, 'latin1')),
      )
      assert.deepEqual([...read(block).keys()], sorted)
      const builder = new BlockBuilder()
      for (const name of sorted) builder.add(model.get(name) as NewEntry)
      assert.deepEqual(read(block), read(builder.finish()))
      for (const [i, name] of sorted.entries()) {
        assert.equal(block?.findName(name), i)
        const bytes = Buffer.from(`x${name}`, 'latin1')
        assert.ok(block?.isNamed(i, bytes, 1, name.length))
      }
      assert.ok((block?.findName('no such name') ?? -1) < 0)
    }),
  )
})

test('a signature is what statx says, and differs when any of it does', t => {
  const path = scratch(t)
  fs.writeFileSync(join(path, 'file'), 'content')
  const root = openRoot(path)
  t.after(() => fs.closeSync(root))
  const stat = new StatBuffer()
  statAt(root, cName('file'), stat)
  const signature = Signature.of(stat)
  const expected = fs.statSync(join(path, 'file'), { bigint: true })
  assert.equal(signature.mtimeNs, expected.mtimeNs)
  assert.equal(signature.ctimeNs, expected.ctimeNs)
  assert.equal(signature.size, 7)
  assert.equal(signature.fullMode, Number(expected.mode))
  assert.ok(signatureMatches(stat, signature.words, 0))
  for (let i = 0; i < 16; i++) {
    const other = Int32Array.from(signature.words)
    other[i] = (other[i] as number) ^ 1
    assert.equal(signatureMatches(stat, other, 0), false)
    assert.equal(new Signature(other).equals(signature), false)
  }
})

function state(index: TreeIndex): string {
  return JSON.stringify([...index.directories].sort().map(([path, block]) => [path, [...read(block)]]))
}

test('a tree that is loaded is what the last group said, or the last one wanted', t => {
  const path = join(scratch(t), 'tree')
  const index = new TreeIndex()
  index.directories.set('', mergeBlock(undefined, new Map([['a', entry('a')]])))
  const file = TreeFile.create(path, Buffer.from('1'), index, { durable: true })
  t.after(() => file.close())
  const states = [state(index)]
  for (let group = 2; group <= 20; group++) {
    const directory = `d${group % 5}/\xff`
    const block =
      group % 4 === 0
        ? undefined
        : mergeBlock(index.directories.get(directory), new Map([[`n${group}`, entry('n')]]))
    if (block === undefined) index.directories.delete(directory)
    else index.directories.set(directory, block)
    if (group === 12) file.rewrite(Buffer.from(`${group}`), index)
    else file.append(Buffer.from(`${group}`), [[directory, block]])
    states.push(state(index))
    assert.equal(state(loadTree(path)?.index as TreeIndex), states.at(-1))
  }
  const wanted = loadTree(path, header => header.toString() === '15')
  assert.equal(state(wanted?.index as TreeIndex), states[14])
  assert.equal(
    loadTree(path, () => false),
    undefined,
  )
  assert.equal(loadTree(`${path}-none`), undefined)
})

test('a torn last group counts as not written, and is gone over', t => {
  const path = join(scratch(t), 'tree')
  const index = new TreeIndex()
  index.directories.set('', mergeBlock(undefined, new Map([['a', entry('a')]])))
  TreeFile.create(path, Buffer.from('1'), index, { durable: false }).close()
  const before = state(index)
  const length = fs.statSync(path).size
  const first = loadTree(path)
  assert.ok(first)
  const file = TreeFile.open(path, first.group, { durable: false })
  file.append(Buffer.from('2'), [['b', mergeBlock(undefined, new Map([['x', entry('x')]]))]])
  file.close()
  const whole = fs.readFileSync(path)
  for (let cut = length; cut < whole.length; cut += 3) {
    fs.writeFileSync(path, whole.subarray(0, cut))
    const loaded = loadTree(path)
    assert.ok(loaded)
    assert.equal(state(loaded.index), before)
    const again = TreeFile.open(path, loaded.group, { durable: false })
    again.append(Buffer.from('2'), [['b', undefined]])
    again.close()
    assert.equal(loadTree(path)?.group.number, 2)
  }
})

test('damage before a later group is named, wherever it is', t => {
  const path = join(scratch(t), 'tree')
  const index = new TreeIndex()
  index.directories.set('', mergeBlock(undefined, new Map([['a', entry('a')]])))
  const file = TreeFile.create(path, Buffer.from('first'), index, { durable: false })
  const end = fs.statSync(path).size
  file.append(Buffer.from('second'), [['b', mergeBlock(undefined, new Map([['x', entry('x')]]))]])
  file.close()
  const whole = fs.readFileSync(path)
  for (let at = 0; at < end; at++) {
    const bytes = Buffer.from(whole)
    bytes[at] = (bytes[at] as number) ^ 0x40
    fs.writeFileSync(path, bytes)
    assert.throws(() => loadTree(path), { code: 'state-damaged' })
  }
})

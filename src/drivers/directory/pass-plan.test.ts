import assert from 'node:assert/strict'
import { test } from 'node:test'
import { fileKind } from '../../os/stat-buffer.ts'
import { entryFlag } from './entry-flags.ts'
import { deed, planPass } from './pass-plan.ts'
import { BlockBuilder, Signature, signatureAt, signatureWords, type TreeBlock } from './tree-block.ts'
import { TreeIndex } from './tree-index.ts'

interface Name {
  readonly name: string
  readonly links: number
  readonly flags: number
}

/** Names of one file, as far as they were found. */
function blockOf(...names: readonly Name[]): TreeBlock {
  const builder = new BlockBuilder()
  for (const { name, links, flags } of names) {
    const words = new Int32Array(signatureWords)
    words[signatureAt.mode] = fileKind.file | 0o644
    words[signatureAt.links] = links
    words[signatureAt.sizeLow] = 5
    words[signatureAt.inodeLow] = 4711
    builder.add({ name, signature: new Signature(words), payload: Buffer.alloc(16), flags })
  }
  return builder.finish()
}

const { pending, racy } = entryFlag

for (const [what, before, found] of [
  ['is read', 0, pending],
  ['is not read', 0, 0],
  ['is read again', racy, racy],
  ['is new', undefined, pending],
] as const) {
  test(`a name that was looked at before the file got its second one keeps the file, which ${what}`, () => {
    const index = new TreeIndex()
    index.directories.set(
      '',
      before === undefined ? blockOf() : blockOf({ name: 'first', links: 1, flags: before }),
    )
    const block = blockOf(
      { name: 'first', links: 1, flags: found },
      { name: 'second', links: 2, flags: pending },
    )
    const { links, directories } = planPass(index, new Map([['', block]]))
    assert.deepEqual(
      links.map(({ name, leader, isLinked, exists }) => [name.path, leader.path, isLinked, exists]),
      [['second', 'first', false, false]],
    )
    const plan = directories[0]
    assert.equal(plan?.deeds[plan.entries.indexOf(1)], deed.link)
  })
}

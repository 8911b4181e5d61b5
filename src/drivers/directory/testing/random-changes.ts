/** Changes that a source might send, at random, for the tree that a model has. */
import type { Random } from '../../../os/testing/random.ts'
import { type Change, type EntryPath, entryPath, storeName } from '../../../stream/entry.ts'
import type { CopyModel } from './copy-model.ts'

const store = storeName('tree')
const names = ['a', 'b', 'c', 'a.b', 'ö', 'd\xff', 'long'.repeat(60)].map(name =>
  Buffer.from(name, 'utf8').length === name.length ? name : Buffer.from(name, 'utf8').toString('latin1'),
)
const allModes = [0o644, 0o600, 0o755, 0o444, 0o4755, 0o000, 0o2770, 0o1777]
/** What somebody who is not root could have read at a source. */
const readableModes = [0o644, 0o600, 0o755, 0o444, 0o4755, 0o555, 0o500, 0o1777]
const mebibyte = 1024 * 1024

/** Gives changes one after another, each of which the model has taken already. */
export function* randomChanges(random: Random, model: CopyModel, count: number): Generator<Change> {
  const give = function* (...changes: Change[]): Generator<Change> {
    for (const change of changes) {
      model.apply(change)
      yield change
    }
  }
  for (let i = 0; i < count; i++) yield* give(...someChange(random, model))
}

function someChange(random: Random, model: CopyModel): Change[] {
  const directories = ofKind(model, 'directory')
  const parent = random.pick(directories)
  const name = random.pick(names)
  const path = at(parent === '' ? name : `${parent}/${name}`)
  const files = ofKind(model, 'file')
  const old = files.length === 0 ? undefined : at(random.pick(files))
  switch (random.below(13)) {
    case 0:
    case 1:
    case 2:
      return [...content(random, path, model.nodes.has(path)), attributes(random, path)]
    case 3: {
      const replaced = old ?? path
      return [
        { type: 'replace', store, path: replaced },
        ...content(random, replaced, false),
        attributes(random, replaced),
        { type: 'replaced', store, path: replaced },
      ]
    }
    case 4:
      return old === undefined ? [] : [write(random, old), attributes(random, old)]
    case 5:
      return old === undefined
        ? []
        : [{ type: 'truncate', store, path: old, size: random.below(3) * random.below(mebibyte) }]
    case 6:
      return old === undefined ? [] : [attributes(random, old)]
    case 7: {
      const all = [...model.nodes.keys()].filter(each => each !== '')
      return all.length === 0 ? [] : [{ type: 'remove', store, path: at(random.pick(all)) }]
    }
    case 8:
    case 9:
      if (path.split('/').length > 4) return []
      return [{ type: 'node', store, path, node: { kind: 'directory' } }, attributes(random, path)]
    case 10:
      return [
        {
          type: 'node',
          store,
          path,
          node: { kind: 'symlink', target: random.pick(['a', '/etc', '../..', 'x\xfe']) },
        },
        { type: 'attributes', store, path, mtimeNs: time(random) },
      ]
    case 11:
      if (old === undefined || old === path || old.startsWith(`${path}/`)) return []
      return [{ type: 'node', store, path, node: { kind: 'hardlink', to: old } }]
    default: {
      const all = [...model.nodes.keys()].filter(each => each !== '')
      if (all.length === 0) return []
      const from = at(random.pick(all))
      if (from === path || from.startsWith(`${path}/`) || path.startsWith(`${from}/`)) return []
      // two names of one file: rename(2) leaves both
      if (model.nodes.get(from) === model.nodes.get(path)) return []
      return [{ type: 'rename', store, path: from, to: path }]
    }
  }
}

function at(path: string): EntryPath {
  return entryPath(path)
}

function ofKind(model: CopyModel, kind: string): string[] {
  return [...model.nodes].filter(([, node]) => node.kind === kind).map(([path]) => path)
}

function content(random: Random, path: EntryPath, exists: boolean): Change[] {
  if (exists && random.below(3) > 0) {
    return [{ type: 'remove', store, path }, ...content(random, path, false)]
  }
  switch (random.below(6)) {
    case 0:
      return [{ type: 'write', store, path, offset: 0, data: new Uint8Array(0) }]
    case 1:
      return [
        { type: 'write', store, path, offset: 0, data: bytes(random, mebibyte) },
        { type: 'write', store, path, offset: 2 * mebibyte, data: bytes(random, random.below(1000)) },
        { type: 'truncate', store, path, size: 3 * mebibyte + random.below(100) },
      ]
    default:
      return [{ type: 'write', store, path, offset: 0, data: bytes(random, random.below(5000)) }]
  }
}

function write(random: Random, path: EntryPath): Change {
  const offset = random.pick([0, 100, mebibyte - 10, mebibyte, 2 * mebibyte + random.below(1000)])
  const data = bytes(random, random.pick([1, 10, 2000, mebibyte]))
  return { type: 'write', store, path, offset, data }
}

function time(random: Random): bigint {
  return (
    BigInt(random.below(2_000_000_000)) * 1_000_000_000n + BigInt(random.below(1_000_000_000)) - 10n ** 17n
  )
}

function attributes(random: Random, path: EntryPath): Change {
  return {
    type: 'attributes',
    store,
    path,
    mode: random.pick(process.getuid?.() === 0 ? allModes : readableModes),
    uid: random.pick([0, 0, 1000]),
    gid: random.pick([0, 0, 100]),
    mtimeNs: time(random),
    ...(random.below(3) === 0
      ? { xattrs: random.below(2) === 0 ? {} : { 'user.one': random.bytes(10), 'user.two': Buffer.from('') } }
      : {}),
  }
}

function bytes(random: Random, length: number): Buffer {
  return length === 0 ? Buffer.alloc(0) : Buffer.alloc(length, random.bytes(13))
}

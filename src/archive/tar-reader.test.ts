import assert from 'node:assert/strict'
import * as fs from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import * as zlib from 'node:zlib'
import { nodeStorage } from '../os/node-storage.ts'
import type { ArchiveFormat } from './compression.ts'
import { levels } from './compression.ts'
import { paxRecord } from './pax-records.ts'
import { blockBytes, field, putChecksum, putOctal } from './tar-format.ts'
import { type TarFault, TarReader } from './tar-reader.ts'
import { runQuietly, WalkedSnapshot } from './testing/walked-snapshot.ts'
import { examineArchive } from './verify-archive.ts'
import { writeArchiveFile } from './write-archive.ts'

const never = new AbortController().signal
const quiet = { signal: never, onProgress() {} }
let root: string
let tree: string

before(() => {
  root = fs.mkdtempSync(join(tmpdir(), 'hotspare-tar-'))
  tree = join(root, 'tree')
  fs.mkdirSync(join(tree, 'd/empty'), { recursive: true })
  fs.writeFileSync(join(tree, 'a.txt'), 'the content of a\n')
  fs.writeFileSync(join(tree, 'b.txt'), Buffer.alloc(2000, 'b'))
  fs.linkSync(join(tree, 'a.txt'), join(tree, 'd/link'))
  fs.symlinkSync('nowhere', join(tree, 'd/symlink'))
  const sparse = fs.openSync(join(tree, 'd/sparse'), 'w')
  fs.writeSync(sparse, 'data behind a hole', 300_000)
  fs.ftruncateSync(sparse, 700_000)
  fs.closeSync(sparse)
  fs.writeFileSync(join(tree, 'n'.repeat(150)), 'a long name')
})
after(() => fs.rmSync(root, { recursive: true }))

async function write(format: ArchiveFormat, name: string): Promise<string> {
  const path = join(root, name)
  await writeArchiveFile(nodeStorage, path, {
    snapshot: new WalkedSnapshot(tree),
    format,
    level: levels[format].usual,
    ownName: 'tree',
    ...quiet,
  })
  return path
}

/** What a reader finds wrong with these bytes, which come in pieces of this size. */
function faultsOf(bytes: Buffer, pieceBytes = bytes.length): TarFault[] {
  const faults: TarFault[] = []
  const reader = new TarReader({ onMember() {}, onFault: fault => faults.push(fault) })
  // a reader may change what it is given
  const own = Buffer.from(bytes)
  for (let at = 0; at < own.length; at += pieceBytes) reader.push(own.subarray(at, at + pieceBytes))
  reader.end()
  return faults
}

async function verdict(path: string, bytes: Buffer): Promise<boolean> {
  fs.writeFileSync(path, bytes)
  return (await examineArchive(nodeStorage, path, quiet)).valid
}

test('a whole archive is accepted in whatever pieces it comes', async () => {
  const bytes = fs.readFileSync(await write('tar', 'pieces.tar'))
  for (const pieceBytes of [1, 7, 511, 512, 513, 4096, 100_000, bytes.length]) {
    assert.deepEqual(faultsOf(bytes, pieceBytes), [], `pieces of ${pieceBytes}`)
  }
})

test('in whatever pieces an archive comes, its members are the same', async () => {
  const membersOf = (bytes: Buffer, pieceBytes: number) => {
    const members: unknown[] = []
    const reader = new TarReader({ onMember: (...member) => members.push(member), onFault() {} })
    for (let at = 0; at < bytes.length; at += pieceBytes)
      reader.push(Buffer.from(bytes.subarray(at, at + pieceBytes)))
    reader.end()
    return members
  }
  const times = [0, 1, 1.5, 1_700_000_000.123456, -1, -1.5, 2 ** 33 + 0.25]
  for (const [i, time] of times.entries()) {
    const path = join(tree, `time-${i}`)
    fs.writeFileSync(path, `content ${i}`.repeat(i * 100))
    fs.utimesSync(path, 1, time)
  }
  const bytes = fs.readFileSync(await write('tar', 'same.tar'))
  const members = membersOf(bytes, bytes.length)
  assert.ok(members.length > times.length)
  for (const pieceBytes of [1, 512, 4000]) assert.deepEqual(membersOf(bytes, pieceBytes), members)
  for (const i of times.keys()) fs.rmSync(join(tree, `time-${i}`))
})

test('any bit that is flipped anywhere in a tar is seen', async () => {
  const bytes = fs.readFileSync(await write('tar', 'flip.tar'))
  for (let at = 0; at < bytes.length; at++) {
    const damaged = Buffer.from(bytes)
    damaged[at] = (damaged[at] as number) ^ (1 << (at % 8))
    assert.notDeepEqual(faultsOf(damaged), [], `byte ${at}`)
  }
})

test('a damaged content is named, and so is where it stands', async () => {
  const bytes = fs.readFileSync(await write('tar', 'named.tar'))
  const at = bytes.indexOf('the content of a')
  bytes[at] = 0x54
  const faults = faultsOf(bytes)
  assert.deepEqual(
    faults.map(({ path, what }) => [path, what]),
    [['./a.txt', 'its content is damaged']],
  )
  const offset = faults[0]?.offset ?? Number.NaN
  assert.ok(offset < at && at - offset < 4096)
})

test('an archive that is cut short anywhere is never accepted', async () => {
  for (const [format, step] of [
    ['tar', 256],
    ['tar.gz', 7],
    ['tar.zst', 7],
  ] as const) {
    const bytes = fs.readFileSync(await write(format, `cut.${format}`))
    for (let length = 0; length < bytes.length; length += step) {
      assert.equal(
        await verdict(join(root, 'cut'), bytes.subarray(0, length)),
        false,
        `${format} at ${length}`,
      )
    }
    assert.equal(await verdict(join(root, 'cut'), bytes.subarray(0, bytes.length - 1)), false, format)
  }
})

test('a compressed archive with a byte changed is accepted only if it still gives the same, and with something behind it never', async () => {
  for (const format of ['tar.gz', 'tar.zst'] as const) {
    const bytes = fs.readFileSync(await write(format, `change.${format}`))
    const decode = format === 'tar.gz' ? zlib.gunzipSync : zlib.zstdDecompressSync
    const whole = decode(bytes)
    let refused = 0
    for (let at = 0; at < bytes.length; at++) {
      const damaged = Buffer.from(bytes)
      damaged[at] = (damaged[at] as number) ^ 0x10
      // gzip's header has a time and a system's number, which mean nothing to the content
      if (await verdict(join(root, 'changed'), damaged))
        assert.deepEqual(decode(damaged), whole, `byte ${at}`)
      else refused++
    }
    assert.ok(refused > bytes.length * 0.9, `${format}: ${refused} of ${bytes.length}`)
    for (const tail of ['x', '\0', '\0'.repeat(1000), 'garbage'])
      assert.equal(await verdict(join(root, 'changed'), Buffer.concat([bytes, Buffer.from(tail)])), false)
  }
})

test('members that are removed, repeated or exchanged are noticed', async () => {
  const bytes = fs.readFileSync(await write('tar', 'members.tar'))
  const offsets: number[] = []
  new TarReader({
    onMember: member => offsets.push(member.offset),
    onFault: fault => assert.fail(fault.what),
  }).push(Buffer.from(bytes))
  const [first, second, third] = offsets.slice(1) as [number, number, number]
  const parts = {
    removed: [bytes.subarray(0, first), bytes.subarray(second)],
    repeated: [bytes.subarray(0, second), bytes.subarray(first)],
    exchanged: [
      bytes.subarray(0, first),
      bytes.subarray(second, third),
      bytes.subarray(first, second),
      bytes.subarray(third),
    ],
  }
  for (const [name, pieces] of Object.entries(parts)) {
    assert.notDeepEqual(faultsOf(Buffer.concat(pieces)), [], name)
  }
})

test('archives of GNU tar in each of its formats are read, with all names', () => {
  for (const format of ['gnu', 'oldgnu', 'pax', 'ustar', 'v7']) {
    const path = join(root, `by-tar-${format}.tar`)
    const isOld = format === 'ustar' || format === 'v7'
    const names = isOld ? ['a.txt', 'b.txt', 'd'] : ['.']
    runQuietly('tar', ...(isOld ? [] : ['--sparse']), `--format=${format}`, '-C', tree, '-cf', path, ...names)
    const members: string[] = []
    const reader = new TarReader({
      onMember: member => members.push(`${member.path} ${member.kind === 'file' ? member.size : 0}`),
      onFault: fault => assert.fail(`${format}: ${fault.what}`),
    })
    const bytes = fs.readFileSync(path)
    for (let at = 0; at < bytes.length; at += 1000) reader.push(bytes.subarray(at, at + 1000))
    reader.end()
    assert.equal(reader.isOwn, false)
    const listed = runQuietly('tar', '--full-time', '--numeric-owner', '-tvf', path)
      .trim()
      .split('\n')
      .map(line => {
        const [kind, , size, , , name] = line.split(/ +/)
        return `${name} ${kind?.startsWith('-') ? size : 0}`
      })
    assert.deepEqual(members, listed, format)
  }
})

function header(change: (block: Buffer) => void): Buffer {
  const block = Buffer.alloc(blockBytes)
  block.write('x', 0)
  block.write('ustar\x0000', field.magic.at, 'latin1')
  for (const part of [field.mode, field.uid, field.gid, field.size, field.mtime]) putOctal(block, 0, part, 0)
  block[field.typeflag.at] = 0x30
  change(block)
  putChecksum(block)
  return block
}

function pax(...records: string[]): Buffer[] {
  const text = records.join('')
  const head = header(block => {
    block[field.typeflag.at] = 0x78
    putOctal(block, 0, field.size, text.length)
  })
  const data = Buffer.alloc(Math.ceil(text.length / blockBytes) * blockBytes)
  data.write(text, 'latin1')
  return [head, data]
}

const plain = header(() => {})
const end = Buffer.alloc(2 * blockBytes)

const hostile: Readonly<Record<string, Buffer[]>> = {
  'a size of letters': [header(block => block.write('zzz', field.size.at))],
  'a negative size': [header(block => block.fill(0xff, field.size.at, field.size.at + 12))],
  'a size beyond all numbers': [
    header(block => {
      block.fill(0x7f, field.size.at, field.size.at + 12)
      block[field.size.at] = 0xbf
    }),
  ],
  'records of 8 GiB': [
    header(block => {
      block[field.typeflag.at] = 0x78
      putOctal(block, 0, field.size, 2 ** 33 - 1)
    }),
  ],
  'records whose length leads beyond them': [...pax('9999 path=x\n'), plain, end],
  'records with a length of nothing': [...pax('0 path=x\n'), plain, end],
  'records without an end': [...pax('11 path=abcd'), plain, end],
  'a name with a zero': [...pax(paxRecord('path', 'a\0b')), plain, end],
  'a size that is no number': [...pax(paxRecord('size', '1e9')), plain, end],
  'a time that is none': [...pax(paxRecord('mtime', 'now')), plain, end],
  'a sparse file of all there is': [
    ...pax(
      paxRecord('GNU.sparse.major', '1'),
      paxRecord('GNU.sparse.minor', '0'),
      paxRecord('GNU.sparse.name', 'x'),
      paxRecord('GNU.sparse.realsize', '9007199254740991'),
    ),
    plain,
    end,
  ],
  'a sparse map that leads outside': [
    ...pax(
      paxRecord('GNU.sparse.major', '1'),
      paxRecord('GNU.sparse.minor', '0'),
      paxRecord('GNU.sparse.name', 'x'),
      paxRecord('GNU.sparse.realsize', '100'),
    ),
    header(block => putOctal(block, 0, field.size, blockBytes)),
    Buffer.from('1\n50\n51\n'.padEnd(blockBytes, '\0')),
    end,
  ],
  'a sparse map that never ends': [
    ...pax(
      paxRecord('GNU.sparse.major', '1'),
      paxRecord('GNU.sparse.minor', '0'),
      paxRecord('GNU.sparse.name', 'x'),
      paxRecord('GNU.sparse.realsize', '100'),
    ),
    header(block => putOctal(block, 0, field.size, blockBytes)),
    Buffer.from('4000000\n'.padEnd(blockBytes, '1')),
    end,
  ],
  'a name without a member': [...pax(paxRecord('path', 'x')), end],
  'a path that leads outside': [...pax(paxRecord('path', 'a/../../etc/passwd')), plain, end],
  'an absolute path': [...pax(paxRecord('path', '/etc/passwd')), plain, end],
  'nothing but noise': [Buffer.from('noise'.repeat(1000))],
  'nothing at all': [],
}

test('what a hostile archive claims is refused, and takes no memory', () => {
  const before = process.memoryUsage().rss
  for (const [name, pieces] of Object.entries(hostile)) {
    const bytes = Buffer.concat(pieces)
    for (const pieceBytes of [100, 512, Math.max(1, bytes.length)])
      assert.notDeepEqual(faultsOf(bytes, pieceBytes), [], name)
  }
  assert.ok(process.memoryUsage().rss - before < 256 * 1024 * 1024)
})

test('after a damaged header reading goes on with the next member', async () => {
  const bytes = fs.readFileSync(await write('tar', 'resume.tar'))
  const paths: string[] = []
  new TarReader({
    onMember: member => paths.push(member.path),
    onFault: fault => assert.fail(fault.what),
  }).push(Buffer.from(bytes))
  const at = bytes.indexOf('./b.txt')
  bytes[at + 1] = 0x2b
  const left: string[] = []
  const faults: TarFault[] = []
  const reader = new TarReader({
    onMember: member => left.push(member.path),
    onFault: fault => faults.push(fault),
  })
  reader.push(bytes)
  reader.end()
  assert.deepEqual(
    left,
    paths.filter(path => path !== './b.txt'),
  )
  assert.match(faults[0]?.what ?? '', /a header is damaged/)
})

import assert from 'node:assert/strict'
import * as fs from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { nodeStorage } from '../../os/node-storage.ts'
import { crc32c } from './crc32c.ts'
import { viewDirectory } from './directory-view.ts'
import { globToRegExp } from './profile-generic.ts'
import { rdmProfile } from './profile-rdm.ts'
import { detectProfile } from './profiles.ts'
import { checkPage, pageBytes } from './prometheus-page.ts'
import { parseManifest } from './redis-manifest.ts'

function directory(t: TestContext, name: string, files: Record<string, string | Buffer>): string {
  const root = fs.mkdtempSync(join(tmpdir(), 'hotspare-profile-'))
  t.after(() => fs.rmSync(root, { recursive: true }))
  const path = join(root, name)
  fs.mkdirSync(path)
  for (const [file, data] of Object.entries(files)) fs.writeFileSync(join(path, file), data)
  return path
}

function fragment(type: number, data: Buffer): Buffer {
  const header = Buffer.alloc(7)
  header[0] = type
  header.writeUInt16BE(data.length, 1)
  header.writeUInt32BE(crc32c(data), 3)
  return Buffer.concat([header, data])
}

const detections: {
  title: string
  name: string
  files: Record<string, string | Buffer>
  profile?: string
}[] = [
  { title: 'a directory of packs', name: 'x.rdm', files: { '0001.pack': 'x' }, profile: 'rdm' },
  { title: 'packs under any name', name: 'x', files: { '0001.pack': 'x', other: '' }, profile: 'rdm' },
  {
    title: 'a Redis append-only directory',
    name: 'appendonlydir',
    files: { 'appendonly.aof.manifest': 'file appendonly.aof.1.incr.aof seq 1 type i\n' },
    profile: 'redis-aof',
  },
  {
    title: 'a Prometheus write-ahead log',
    name: 'wal',
    files: { '00000003': fragment(1, Buffer.from('record')) },
    profile: 'prometheus-wal',
  },
  { title: 'digits that are no Prometheus log', name: 'wal', files: { '00000003': 'something else' } },
  { title: 'a manifest of something else', name: 'x', files: { 'a.manifest': '{"name": "an app"}\n' } },
  { title: 'an empty directory', name: 'x', files: {} },
]

for (const { title, name, files, profile } of detections) {
  test(`${title} is ${profile === undefined ? 'not recognised' : `recognised as ${profile}`}`, async t => {
    const found = await detectProfile(nodeStorage, directory(t, name, files))
    assert.equal(found?.profile, profile)
  })
}

test('packs are in the order of their numbers, also when the names have different lengths', async t => {
  const path = directory(t, 'x.rdm', { '9.pack': '', '10.pack': '', '100.pack': '', 'a.idindex': '' })
  const layout = await rdmProfile.layout(await viewDirectory(nodeStorage, path))
  assert.deepEqual(layout?.packs, ['9.pack', '10.pack', '100.pack'])
  assert.deepEqual(layout?.wholes, [{ name: 'a.idindex' }])
})

test('what is neither a file nor known is named as left out', async t => {
  const path = directory(t, 'x.rdm', { '1.pack': '' })
  fs.mkdirSync(join(path, 'inner'))
  fs.symlinkSync('/', join(path, 'link'))
  const layout = await rdmProfile.layout(await viewDirectory(nodeStorage, path))
  assert.deepEqual(layout?.leftOut, ['inner', 'link'])
})

const globs: [string, string[], string[]][] = [
  ['*.log', ['a.log', '.log'], ['a.logs', 'a-log']],
  ['seg-?', ['seg-1'], ['seg-', 'seg-12']],
  ['[0-9][!a]', ['1b', '2.'], ['ab', '1a']],
  ['{a,b}.*', ['a.x', 'b.'], ['c.x', 'a,b.x']],
  ['a+(b)$', ['a+(b)$'], ['aab']],
  ['größe*', [Buffer.from('größe1').toString('latin1')], ['größe1x'.slice(0, 2)]],
]

for (const [glob, matching, others] of globs) {
  test(`the pattern ${glob} matches just what a shell's would`, () => {
    const expression = globToRegExp(glob)
    for (const name of matching) assert.ok(expression.test(name), name)
    for (const name of others) assert.ok(!expression.test(name), name)
  })
}

test('a manifest that is not whole is not believed', () => {
  const whole = 'file a.1.base.rdb seq 1 type b\nfile "a\\x20b.1.incr.aof" seq 1 type i\n'
  const parsed = parseManifest(Buffer.from(whole))
  assert.ok('files' in parsed)
  assert.deepEqual(parsed.files[1], { name: 'a b.1.incr.aof', sequence: 1, type: 'incremental' })
  const invalid = [
    '',
    whole.slice(0, -1),
    whole.slice(0, 40),
    'file ../x seq 1 type b\n',
    'file a seq 1 type b\nfile b seq 2 type b\n',
    'file a seq 2 type i\nfile b seq 1 type i\n',
    'junk\n',
  ]
  for (const text of invalid) assert.ok('invalid' in parseManifest(Buffer.from(text)), JSON.stringify(text))
})

test('any flipped bit of a page is found', () => {
  const page = Buffer.concat([fragment(1, Buffer.from('first')), fragment(1, Buffer.alloc(300, 'second'))])
  const padded = Buffer.concat([page, Buffer.alloc(pageBytes - page.length)])
  assert.deepEqual(checkPage(padded), { records: 2, validBytes: pageBytes, isOpen: false })
  for (let bit = 0; bit < padded.length * 8; bit += bit < page.length * 8 ? 1 : 9973) {
    const harmed = Buffer.from(padded)
    harmed[bit >> 3]! ^= 1 << (bit & 7)
    const checked = checkPage(harmed)
    // the upper bits of a fragment's type are flags, over which there is no checksum
    const isFlag = [0, 12].includes(bit >> 3) && (bit & 7) >= 3
    const unnoticed =
      checked.records === 2 && checked.damage === undefined && checked.validBytes === pageBytes
    assert.equal(unnoticed, isFlag, `bit ${bit}`)
  }
  const torn = checkPage(page.subarray(0, page.length - 1))
  assert.deepEqual(torn, { records: 1, validBytes: 12, isOpen: false })
})

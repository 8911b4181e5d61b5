import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import * as fs from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { setModificationTime, setXattr } from '../os/attributes.ts'
import { nodeStorage } from '../os/node-storage.ts'
import { Random } from '../os/testing/random.ts'
import { seed } from '../os/testing/seed.ts'
import { type ArchiveFormat, archiveFormats, levels } from './compression.ts'
import { runQuietly, WalkedSnapshot } from './testing/walked-snapshot.ts'
import { examineArchive } from './verify-archive.ts'
import { writeArchiveFile } from './write-archive.ts'

const tools = ['unshare', 'tar', 'rsync', 'setfacl', 'bsdtar', 'zstd', 'gzip']
const missing = tools.filter(tool => spawnSync(tool, ['--version']).error !== undefined)
const isRoot = process.getuid?.() === 0
const required = process.env.HOTSPARE_REQUIRE_ENGINES === '1'
const skip =
  required || (missing.length === 0 && isRoot)
    ? false
    : `needs root, and: apt-get install util-linux tar rsync acl libarchive-tools zstd gzip (missing: ${missing.join(' ')})`
const quiet = { signal: new AbortController().signal, onProgress() {} }
let root: string

before(() => {
  root = fs.mkdtempSync(join(tmpdir(), 'hotspare-archive-'))
})
after(() => fs.rmSync(root, { recursive: true }))

/** Names of all kinds, some of them not UTF-8. */
function randomName(random: Random): Buffer {
  switch (random.below(6)) {
    case 0:
      return Buffer.from(`plain-${random.below(1000)}`)
    case 1:
      return Buffer.from(`long-${random.below(1000)}-${'n'.repeat(random.below(230))}`)
    case 2:
      return Buffer.from(`ümläut ☃ ${random.below(1000)}`)
    case 3:
      return Buffer.concat([Buffer.from([0xff, 0xfe]), Buffer.from(`${random.below(1000)}`)])
    case 4:
      return Buffer.from(`-rf \t"'\\${random.below(1000)}`)
    default:
      return Buffer.from(`=%3D=${random.below(1000)}`)
  }
}

function randomContent(random: Random): Buffer {
  const sizes = [0, 1, 511, 512, 513, 3000, 70_000, 1024 * 1024, 1024 * 1024 + 1, 2_500_000]
  const size = random.pick(sizes)
  return random.below(2) === 0 ? Buffer.alloc(size, random.bytes(97)) : Buffer.alloc(size, 'words and words ')
}

/** Metadata comes last, deepest first, because what is made in a directory changes its time. */
function randomTree(random: Random, tree: string): void {
  fs.mkdirSync(tree)
  const directories = [Buffer.from(tree)]
  const files: Buffer[] = []
  const all = [Buffer.from(tree)]
  for (let i = 0; i < 60; i++) {
    const parent = random.pick(directories)
    const path = Buffer.concat([parent, Buffer.from('/'), randomName(random)])
    if (fs.existsSync(path) || path.length > 3000) continue
    make(random, path, directories, files)
    all.push(path)
  }
  for (const path of all.reverse()) decorate(random, path)
}

function make(random: Random, path: Buffer, directories: Buffer[], files: Buffer[]): void {
  const kind = random.below(10)
  if (kind < 3) {
    fs.mkdirSync(path)
    directories.push(path)
  } else if (kind === 3) {
    fs.symlinkSync(
      random.pick([Buffer.from('nowhere'), Buffer.from('t'.repeat(300)), randomName(random)]),
      path,
    )
  } else if (kind === 4 && files.length > 0) {
    fs.linkSync(random.pick(files), path)
  } else if (kind === 5) {
    makeSparse(random, path)
    files.push(path)
  } else {
    fs.writeFileSync(path, randomContent(random))
    files.push(path)
  }
}

function makeSparse(random: Random, path: Buffer): void {
  const fd = fs.openSync(path, 'w')
  for (let i = random.below(4); i > 0; i--)
    fs.writeSync(fd, random.bytes(100), 0, 100, random.below(5_000_000))
  fs.ftruncateSync(fd, 5_000_000 + random.below(1_000_000))
  fs.closeSync(fd)
}

function decorate(random: Random, path: Buffer): void {
  const isLink = fs.lstatSync(path).isSymbolicLink()
  if (random.below(2) === 0)
    fs.lchownSync(path, random.pick([0, 1234, 3_000_000]), random.pick([0, 99, 2_500_000]))
  if (!isLink) {
    fs.chmodSync(path, random.pick([0o644, 0o755, 0o4755, 0o2755, 0o1777, 0o600, 0o000]))
    if (random.below(3) === 0) setXattr(path, 'user.plain', Buffer.from('value'))
    if (random.below(4) === 0) setXattr(path, 'user.with=equals%3D', random.bytes(300))
    if (random.below(4) === 0) setXattr(path, 'user.binary', Buffer.from([0, 10, 0x3d, 255]))
    if (random.below(4) === 0) runQuietly('setfacl', '-m', 'u:4321:rwx,g:99:r-x', pathText(path))
    if (random.below(4) === 0 && fs.lstatSync(path).isDirectory())
      runQuietly('setfacl', '-d', '-m', 'u:4321:rwx', pathText(path))
  }
  const times = [1_700_000_000_123_456_789n, 0n, -1_500_000_000n, -1_234_567_890_000_000_001n, 99n]
  setModificationTime(path, random.pick(times))
}

/** Programs get text: a name that is not UTF-8 is reached through a pattern of the shell. */
function pathText(path: Buffer): string {
  const text = path.toString()
  if (Buffer.from(text).equals(path)) return text
  const stand = join(root, 'stand-in')
  fs.rmSync(stand, { force: true })
  fs.symlinkSync(path, stand)
  return stand
}

async function write(tree: string, format: ArchiveFormat, path: string): Promise<void> {
  const level = levels[format].usual
  const snapshot = new WalkedSnapshot(tree)
  await writeArchiveFile(nodeStorage, path, { snapshot, format, level, ownName: 'own', ...quiet })
}

/** All that differs between two trees, by an independent tool. */
function differences(tree: string, other: string, ...more: string[]): string {
  const lines = runQuietly(
    'rsync',
    '-aHAXn',
    '--delete',
    '-i',
    '--checksum',
    '--modify-window=-1',
    ...more,
    `${tree}/`,
    `${other}/`,
  ).split('\n')
  // a symbolic link's second name is a link of its own in an archive, alike in all but that
  return lines.filter(line => !line.startsWith('hL   ')).join('\n')
}

for (const round of [0, 1, 2, 3, 4, 5]) {
  const format = archiveFormats[round % archiveFormats.length] as ArchiveFormat
  test(`any tree through a ${format} and GNU tar is the same tree, with all metadata (HOTSPARE_SEED=${seed}, ${round})`, {
    skip,
  }, async () => {
    const tree = join(root, `tree-${round}`)
    randomTree(new Random(seed + round), tree)
    const path = join(root, `tree-${round}.${format}`)
    await write(tree, format, path)

    const out = join(root, `out-${round}`)
    fs.mkdirSync(out)
    const extracted = spawnSync(
      'tar',
      ['--xattrs', '--xattrs-include=*', '--acls', '--numeric-owner', '-xpf', path, '-C', out],
      { encoding: 'utf8' },
    )
    assert.equal(extracted.status, 0, extracted.stderr)
    assert.equal(differences(tree, out), '')
    assert.equal(differences(out, tree), '')

    const { valid, findings } = await examineArchive(nodeStorage, path, quiet, new WalkedSnapshot(tree))
    assert.ok(valid, JSON.stringify(findings))
    const again = join(root, 'again')
    await write(tree, format, again)
    assert.ok(fs.readFileSync(path).equals(fs.readFileSync(again)), 'the same tree gives the same bytes')
  })
}

test('what has holes at the source has holes when GNU tar has extracted it', { skip }, async () => {
  const tree = join(root, 'holes')
  fs.mkdirSync(tree)
  fs.writeFileSync(join(tree, 'sparse'), 'x')
  fs.truncateSync(join(tree, 'sparse'), 100_000_000)
  const path = join(root, 'holes.tar')
  await write(tree, 'tar', path)
  assert.ok(fs.statSync(path).size < 100_000)
  const out = join(root, 'holes-out')
  fs.mkdirSync(out)
  runQuietly('tar', '-xf', path, '-C', out)
  const { size, blocks } = fs.statSync(join(out, 'sparse'))
  assert.equal(size, 100_000_000)
  assert.ok(blocks * 512 < 1_000_000)
})

test('each format passes the test of its own tool, and bsdtar and GNU tar list the same names', {
  skip,
}, async () => {
  const tree = join(root, 'listed')
  fs.mkdirSync(join(tree, 'd/e'), { recursive: true })
  for (let i = 0; i < 300; i++) fs.writeFileSync(join(tree, 'd', `file ${i}`), Buffer.alloc(i * 100, `${i}`))
  fs.writeFileSync(join(tree, 'large'), Buffer.alloc(5_000_000, 'large'))
  for (const format of archiveFormats) {
    const path = join(root, `listed.${format}`)
    await write(tree, format, path)
    const byTar = runQuietly('tar', '-tf', path)
    assert.equal(runQuietly('bsdtar', '-tf', path), byTar, format)
    assert.equal(byTar.trim().split('\n').length, 304)
    runQuietly('tar', '--compare', '-f', path, '-C', tree)
  }
  runQuietly('gzip', '-t', join(root, 'listed.tar.gz'))
  runQuietly('zstd', '-q', '-t', join(root, 'listed.tar.zst'))
})

test('bsdtar extracts ACLs, attributes and times as well', { skip }, async () => {
  const tree = join(root, 'for-bsdtar')
  fs.mkdirSync(tree)
  fs.writeFileSync(join(tree, 'a'), 'a')
  setXattr(join(tree, 'a'), 'user.x', Buffer.from('value'))
  runQuietly('setfacl', '-m', 'u:4321:rwx', join(tree, 'a'))
  setModificationTime(join(tree, 'a'), 1_600_000_000_123_456_789n)
  const path = join(root, 'for-bsdtar.tar')
  await write(tree, 'tar', path)
  const out = join(root, 'by-bsdtar')
  fs.mkdirSync(out)
  runQuietly('bsdtar', '-xpf', path, '-C', out)
  // it leaves the directory alone into which it extracts
  assert.equal(differences(tree, out, '--omit-dir-times'), '')
})

test('a disk that is full keeps the archive of yesterday, and nothing of the new one', { skip }, async () => {
  const tree = join(root, 'too-large')
  fs.mkdirSync(tree)
  fs.writeFileSync(join(tree, 'noise'), randomBytes(6_000_000))
  const disk = join(root, 'disk')
  fs.mkdirSync(disk)
  const program = join(import.meta.dirname, 'testing/slow-archiver.ts')
  // in a mount namespace of its own, that ends with the shell
  const script = `mount -t tmpfs -o size=2m none "$1" && echo yesterday > "$1/a.tar" && "$2" "$3" "$4" "$1/a.tar" whole; echo "status $?"; ls -A "$1"; cat "$1/a.tar"; "$2" "$3" "$5" "$1/a.tar" whole && tar -tf "$1/a.tar"`
  const small = join(root, 'small-enough')
  fs.mkdirSync(small)
  fs.writeFileSync(join(small, 'file'), randomBytes(1_000_000))
  const args = [
    '-m',
    '--propagation',
    'private',
    'sh',
    '-c',
    script,
    'sh',
    disk,
    process.execPath,
    program,
    tree,
    small,
  ]
  const { stdout, stderr } = spawnSync('unshare', args, { encoding: 'utf8', timeout: 60_000 })
  assert.equal(stdout, 'status 1\na.tar\nyesterday\n./\n./file\n', stderr)
  assert.match(stderr, /ENOSPC/)
})

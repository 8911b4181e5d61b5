import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import fs from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { DirectoryReader, dirType } from './directory-reader.ts'
import { fileKind, StatBuffer } from './stat-buffer.ts'
import {
  closeFd,
  cName,
  EEXIST,
  ELOOP,
  ENOENT,
  EXDEV,
  nextData,
  nextHole,
  openAt,
  openFlag,
  openRoot,
  readAt,
  statAt,
  statFd,
  syncFileSystem,
  truncateFd,
  tryChangeMode,
  tryChangeOwnerAt,
  tryLinkAt,
  tryMakeDirectoryAt,
  tryOpenAt,
  tryOpenBeneath,
  tryReadLinkAt,
  tryRemoveDirectoryAt,
  tryRenameAt,
  trySetTimeAt,
  tryStatAt,
  trySymlinkAt,
  tryUnlinkAt,
  writeAt,
} from './tree-calls.ts'
import { readXattrs, tryRemoveXattr, trySetXattr, xattrPlace } from './xattr-calls.ts'

function scratch(t: TestContext): { path: string; fd: number } {
  const path = fs.mkdtempSync(join(tmpdir(), 'hotspare-tree-calls-'))
  const fd = openRoot(path)
  t.after(() => {
    closeFd(fd)
    fs.rmSync(path, { recursive: true, force: true })
  })
  return { path, fd }
}

test('statx says what Node.js says, of the name itself', t => {
  const { path, fd } = scratch(t)
  fs.writeFileSync(join(path, 'file'), 'content', { mode: 0o640 })
  fs.linkSync(join(path, 'file'), join(path, 'other'))
  fs.utimesSync(join(path, 'file'), new Date(-5250), new Date(-5250))
  fs.symlinkSync('nowhere', join(path, 'link'))
  const stat = new StatBuffer()
  for (const name of ['file', 'link', '.']) {
    statAt(fd, cName(name), stat)
    const expected = fs.lstatSync(join(path, name), { bigint: true })
    assert.equal(stat.fullMode, Number(expected.mode))
    assert.equal(stat.links, Number(expected.nlink))
    assert.equal(stat.uid, Number(expected.uid))
    assert.equal(stat.gid, Number(expected.gid))
    assert.equal(stat.size, Number(expected.size))
    assert.equal(stat.blocks, Number(expected.blocks))
    assert.equal(stat.inodeLow + stat.inodeHigh * 2 ** 32, Number(expected.ino))
    assert.equal(stat.mtimeNs, expected.mtimeNs)
    assert.equal(stat.ctimeNs, expected.ctimeNs)
  }
  const file = openAt(fd, cName('file'), openFlag.read)
  statFd(file, stat)
  closeFd(file)
  assert.equal(stat.kind, fileKind.file)
  assert.equal(stat.mode, 0o640)
  assert.equal(stat.mtimeNs, -5_250_000_000n)
  assert.equal(tryStatAt(fd, cName('nothing'), stat), -(ENOENT as number))
})

test('a directory gives every name as bytes, over any number of reads', t => {
  const { path, fd } = scratch(t)
  const names = [...Array(500).keys()].map(i => `name-${'x'.repeat(i % 100)}-${i}`)
  for (const name of names) fs.writeFileSync(join(path, name), '')
  const latin1 = Buffer.concat([Buffer.from(`${path}/`), Buffer.from([0xff, 0xe4, 0x0a])])
  fs.mkdirSync(latin1)
  fs.symlinkSync('x', join(path, '...'))
  const reader = new DirectoryReader(1024)
  const found: string[] = []
  const types = new Map<string, number>()
  reader.start(fd)
  while (reader.step()) {
    const name = reader.name.toString('latin1', 0, reader.nameLength + 1)
    assert.equal(name.at(-1), '\0')
    found.push(name.slice(0, -1))
    types.set(name.slice(0, -1), reader.type)
  }
  assert.deepEqual(found.sort(), [...names, '\xff\xe4\n', '...'].sort())
  for (const [name, expected] of [
    ['\xff\xe4\n', dirType.directory],
    ['...', dirType.symlink],
    [names[0] as string, dirType.file],
  ] as const)
    assert.ok([expected, dirType.unknown].includes(types.get(name) as never))
})

test('no name leads through a symbolic link or out of the directory', t => {
  const { path, fd } = scratch(t)
  fs.mkdirSync(join(path, 'a/b'), { recursive: true })
  fs.writeFileSync(join(path, 'a/b/file'), 'x')
  fs.symlinkSync('a', join(path, 'link'))
  fs.symlinkSync('a/b/file', join(path, 'to-file'))
  assert.equal(tryOpenAt(fd, cName('to-file'), openFlag.read), -(ELOOP as number))
  const file = tryOpenBeneath(fd, 'a/b/file', openFlag.read)
  assert.ok(file >= 0)
  closeFd(file)
  assert.equal(tryOpenBeneath(fd, 'link/b/file', openFlag.read), -(ELOOP as number))
  assert.equal(tryOpenBeneath(fd, 'to-file', openFlag.read), -(ELOOP as number))
  assert.equal(tryOpenBeneath(fd, '../x', openFlag.read), -(EXDEV as number))
  assert.equal(tryOpenBeneath(fd, 'a/nothing', openFlag.read), -(ENOENT as number))
})

test('names are made, linked, moved and removed', t => {
  const { path, fd } = scratch(t)
  const [a, b, d] = [cName('a'), cName('b'), cName('d')]
  const file = openAt(fd, a, openFlag.create | openFlag.exclusive | openFlag.readWrite, 0o600)
  writeAt(file, Buffer.from('0123456789'), 5)
  const into = Buffer.alloc(20)
  assert.equal(readAt(file, into, 0), 15)
  assert.equal(into.subarray(0, 15).toString(), '\0\0\0\0\x000123456789')
  truncateFd(file, 7)
  closeFd(file)
  assert.equal(fs.statSync(join(path, 'a')).size, 7)
  assert.equal(tryLinkAt(fd, a, fd, b), 0)
  assert.equal(tryLinkAt(fd, a, fd, b), -(EEXIST as number))
  assert.equal(tryMakeDirectoryAt(fd, d, 0o700), 0)
  assert.equal(trySymlinkAt(cName('a/\xff'), fd, cName('s')), 0)
  assert.equal(tryReadLinkAt(fd, cName('s')), 'a/\xff')
  assert.equal(tryRenameAt(fd, a, fd, cName('s'), 'no-replace'), -(EEXIST as number))
  assert.equal(tryRenameAt(fd, a, fd, cName('s')), 0)
  assert.equal(tryUnlinkAt(fd, cName('s')), 0)
  assert.equal(tryUnlinkAt(fd, b), 0)
  assert.equal(tryRemoveDirectoryAt(fd, d), 0)
  assert.deepEqual(fs.readdirSync(path), [])
  syncFileSystem(fd)
})

test('metadata is set of the name itself, to the nanosecond', t => {
  const { path, fd } = scratch(t)
  fs.writeFileSync(join(path, 'file'), 'x')
  fs.symlinkSync('file', join(path, 'link'))
  const file = openAt(fd, cName('file'), openFlag.read)
  assert.equal(tryChangeMode(file, 0o4751), 0)
  closeFd(file)
  assert.equal(trySetTimeAt(fd, cName('link'), 1_000_000_000, 0, 123_456_789), 0)
  assert.equal(trySetTimeAt(fd, cName('file'), -2, -1, 5), 0)
  const { uid, gid } = fs.statSync(path)
  assert.equal(tryChangeOwnerAt(fd, cName('link'), uid, gid), 0)
  assert.equal(fs.statSync(join(path, 'file')).mode & 0o7777, 0o4751)
  assert.equal(fs.lstatSync(join(path, 'link'), { bigint: true }).mtimeNs, 1_000_000_000_123_456_789n)
  assert.equal(fs.lstatSync(join(path, 'file'), { bigint: true }).mtimeNs, -1_999_999_995n)
})

test('holes are told from data', t => {
  const { path, fd } = scratch(t)
  const file = openAt(fd, cName('f'), openFlag.create | openFlag.readWrite, 0o600)
  t.after(() => closeFd(file))
  truncateFd(file, 3_000_000)
  writeAt(file, Buffer.alloc(4096, 1), 1_048_576)
  const supported = fs.statSync(join(path, 'f')).blocks < 3000
  assert.equal(nextData(file, 0), supported ? 1_048_576 : 0)
  if (supported) {
    assert.equal(nextHole(file, 1_048_576), 1_052_672)
    assert.equal(nextData(file, 1_052_672), undefined)
  }
  assert.equal(nextHole(file, 3_000_001), undefined)
})

test('extended attributes are read, set and removed, of open files and of names', t => {
  const { path, fd } = scratch(t)
  fs.writeFileSync(join(path, 'file'), 'x')
  const place = xattrPlace(fd, cName('file'))
  assert.equal(readXattrs(place), undefined)
  const file = openAt(fd, cName('file'), openFlag.read)
  t.after(() => closeFd(file))
  assert.equal(trySetXattr(file, 'user.b', Buffer.from([0, 255])), 0)
  assert.equal(trySetXattr(place, 'user.a', Buffer.alloc(0)), 0)
  const expected = { 'user.a': Buffer.alloc(0), 'user.b': Buffer.from([0, 255]) }
  assert.deepEqual(readXattrs(file), expected)
  assert.deepEqual(readXattrs(place), expected)
  assert.equal(tryRemoveXattr(file, 'user.a'), 0)
  assert.equal(tryRemoveXattr(place, 'user.a'), 0)
  assert.equal(tryRemoveXattr(place, 'user.b'), 0)
  assert.equal(readXattrs(file), undefined)
  // where acl tools are there, an ACL is an attribute like others
  if (process.env.PATH?.split(':').some(dir => fs.existsSync(join(dir, 'setfacl')))) {
    execFileSync('setfacl', ['-m', 'u:12345:rw', join(path, 'file')])
    assert.deepEqual(Object.keys(readXattrs(file) ?? {}), ['system.posix_acl_access'])
  }
})

test('an error says code, number, call and name', t => {
  const { fd } = scratch(t)
  assert.throws(() => openAt(fd, cName('nothing'), openFlag.read), {
    code: 'ENOENT',
    errno: ENOENT,
    syscall: 'openat',
    message: /'nothing'/,
  })
})

import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import * as fs from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, test } from 'node:test'
import { archive, HotspareError, listArchive, verifyArchive } from '../../src/index.ts'
import { assertError, hotspare, killStarted, main, object, start } from './hotspare.ts'
import { type LiveStore, storeKinds } from './stores.ts'

let root: string
const opened: LiveStore[] = []

beforeEach(() => {
  root = fs.realpathSync(fs.mkdtempSync(join(tmpdir(), 'hotspare-archive-')))
  fs.mkdirSync(join(root, 'live'))
  fs.mkdirSync(join(root, 'out'))
})
afterEach(() => {
  killStarted()
  for (const store of opened.splice(0)) store.close()
  fs.rmSync(root, { recursive: true, force: true, maxRetries: 5 })
})

/** A live store, and where its copy is to be. */
function make(make: (directory: string) => LiveStore): { store: LiveStore; target: string } {
  const store = make(join(root, 'live'))
  opened.push(store)
  for (let n = 0; n < 30; n++) store.add()
  return { store, target: join(root, store.kind === 'packs' ? 'copy.rdm' : 'copy') }
}

/** Where the store is when the archive was extracted by GNU tar. */
function extract(file: string, target: string, kind: string, name: string): string {
  const place = join(root, `extracted-${name}.rdm`)
  fs.mkdirSync(place)
  const { status, stderr } = spawnSync('tar', ['-xpf', file, '-C', place], { encoding: 'utf8' })
  assert.equal(status, 0, stderr)
  assert.equal(stderr, '')
  return kind === 'packs' ? place : join(place, target.slice(target.lastIndexOf('/') + 1))
}

for (const kind of storeKinds) {
  const { name } = kind

  test(`${name}: an archive that is made while following goes on holds a whole state, is valid, and equals itself`, async () => {
    const { store, target } = make(kind)
    const follower = start('follow', store.path, target, '--json')
    await follower.event('live')
    const writing = setInterval(() => store.add(), 2)
    try {
      for (const format of ['tar', 'tar.gz', 'tar.zst']) {
        const file = join(root, `out/a.${format}`)
        const made = await object('archive', target, file)
        assert.equal(made.format, format)
        assert.equal(made.consistent, true)
        assert.ok(store.count(extract(file, target, store.kind, format)) >= 30)
        assert.equal((await object('archive', '--verify', file)).valid, true)
      }
    } finally {
      clearInterval(writing)
    }
    assert.equal((await follower.end('SIGTERM')).exit, 0)
    assert.deepEqual(
      fs.readdirSync(`${target}.hotspare`).filter(found => found.startsWith('archive-')),
      [],
    )
  })

  test(`${name}: the same copy gives the same bytes, in a file and on the output, and is the same by --verify`, async () => {
    const { store, target } = make(kind)
    assert.equal((await hotspare('follow', store.path, target, '--once')).exit, 0)
    const [first, second] = [join(root, 'out/first.tar.zst'), join(root, 'out/second.tar.zst')]
    await object('archive', target, first)
    await object('archive', target, second)
    assert.ok(fs.readFileSync(first).equals(fs.readFileSync(second)))
    const piped = spawnSync(process.execPath, [main, 'archive', target, '-', '--format', 'tar.zst', '-q'])
    assert.equal(piped.status, 0, piped.stderr.toString())
    assert.ok(piped.stdout.equals(fs.readFileSync(first)))
    assert.equal(piped.stderr.toString(), '')
    assert.equal((await object('archive', '--verify', first, target)).valid, true)
    store.add()
    assert.equal((await hotspare('follow', store.path, target, '--once')).exit, 0)
    const differing = await hotspare('archive', '--verify', first, target)
    assert.equal(differing.exit, 7)
    assert.match(differing.stderr, /differs from the copy: .*content/)
  })

  test(`${name}: a copy that was changed by somebody else is not archived, and an archive that is there stays`, async () => {
    const { store, target } = make(kind)
    assert.equal((await hotspare('follow', store.path, target, '--once')).exit, 0)
    const file = join(root, 'out/kept.tar')
    fs.writeFileSync(file, 'of yesterday')
    store.tamper(target)
    assert.notEqual((await hotspare('archive', target, file)).exit, 0)
    assert.equal(fs.readFileSync(file, 'utf8'), 'of yesterday')
    assert.deepEqual(fs.readdirSync(join(root, 'out')), ['kept.tar'])
  })
}

async function sqliteCopy(): Promise<string> {
  const { store, target } = make(storeKinds[0] as (directory: string) => LiveStore)
  assert.equal((await hotspare('follow', store.path, target, '--once')).exit, 0)
  return target
}

test('a damaged archive is named by --verify and by --list, with status 7', async () => {
  const target = await sqliteCopy()
  const file = join(root, 'out/a.tar')
  await object('archive', target, file)
  const bytes = fs.readFileSync(file)
  bytes[5000] = (bytes[5000] as number) ^ 1
  fs.writeFileSync(file, bytes)
  const damaged = await hotspare('archive', '--verify', file)
  assert.equal(damaged.exit, 7)
  assert.match(damaged.stderr, /FAILED.*'copy': its content is damaged \(at byte \d+ of the archive\)/)
  assertError(await hotspare('archive', '--verify', file), 'archive-damaged')
  fs.writeFileSync(file, bytes.subarray(0, 3000))
  assertError(await hotspare('archive', '--list', file), 'archive-damaged')
})

test('--list shows what tar shows, and lets no name act on the terminal', async () => {
  const tree = join(root, 'tree')
  fs.mkdirSync(tree)
  fs.writeFileSync(join(tree, 'plain'), 'x')
  fs.symlinkSync('plain', join(tree, 'link'))
  fs.writeFileSync(join(tree, '\x1b[31mred\n'), 'x')
  const file = join(root, 'out/by-tar.tgz')
  assert.equal(spawnSync('tar', ['-czf', file, '-C', tree, '.']).status, 0)
  const listed = await hotspare('archive', '-l', file)
  assert.equal(listed.exit, 0, listed.stderr)
  assert.match(listed.stdout, /^-rw\S+ .* 1 .* \.\/plain$/m)
  assert.match(listed.stdout, /^lrwxrwxrwx.* \.\/link -> plain$/m)
  assert.match(listed.stdout, /\.\/\\x1b\[31mred\\x0a$/m)
  assert.equal(listed.stdout.includes('\x1b'), false)
  const lines = (await hotspare('archive', '-l', file, '--json')).stdout.trim().split('\n')
  assert.equal(lines.length, 4)
  assert.deepEqual(Object.keys(JSON.parse(lines[0] as string)).slice(0, 2), ['path', 'kind'])
})

test('what cannot be meant is refused before anything is done', async () => {
  const target = await sqliteCopy()
  fs.mkdirSync(join(root, 'out/directory.tar'))
  const wrong: readonly (readonly string[])[] = [
    [target],
    [target, join(root, 'out/a.zip')],
    [target, join(root, 'out/a.tar'), '--format', 'zip'],
    [target, join(root, 'out/a.tar'), '--level', '3'],
    [target, join(root, 'out/a.tar.zst'), '--level', '99'],
    [target, join(root, 'out/directory.tar')],
    [target, '-'],
    [target, '-', '--format', 'tar', '--json'],
    ['--list', '--verify', join(root, 'out/a.tar')],
    ['--list', join(root, 'out/a.tar'), 'more'],
  ]
  for (const args of wrong) assertError(await hotspare('archive', ...args), 'usage')
  assertError(await hotspare('archive', target, join(root, 'nowhere/a.tar')), 'target-missing')
  assertError(await hotspare('archive', target, `${target}.hotspare/a.tar`), 'target-inside-source')
  assertError(await hotspare('archive', join(root, 'nothing'), join(root, 'out/a.tar')), 'target-missing')
  assertError(await hotspare('archive', '--list', join(root, 'nothing.tar')), 'source-missing')
  assertError(await hotspare('archive', '--verify', join(root, 'nothing.tar')), 'source-missing')
  assert.deepEqual(fs.readdirSync(join(root, 'out')), ['directory.tar'])
})

test('a directory that was never read in a window is archived with a notice, and refused with --consistent', async () => {
  const live = join(root, 'live')
  for (let n = 0; n < 100; n++) fs.writeFileSync(join(live, `file ${n}`), `content ${n}`)
  fs.writeFileSync(join(live, 'large'), Buffer.alloc(3_000_000, 'large '))
  fs.linkSync(join(live, 'large'), join(live, 'link'))
  fs.chownSync(join(live, 'file 7'), process.getuid?.() ?? 0, process.getgid?.() ?? 0)
  fs.utimesSync(join(live, 'file 8'), 0, -1.5)
  const target = join(root, 'copy')
  assert.equal((await hotspare('follow', live, target, '--once', '--driver', 'directory')).exit, 0)
  const file = join(root, 'out/a.tar.zst')
  const made = await hotspare('archive', target, file)
  assert.equal(made.exit, 0, made.stderr)
  assert.match(made.stderr, /never read inside a maintenance window.*\(not-consistent\)/)
  assert.match(made.stdout, /not proved consistent/)
  assert.equal((await object('archive', '--verify', file, target)).valid, true)
  const out = join(root, 'extracted')
  fs.mkdirSync(out)
  spawnSync('tar', ['-xpf', file, '-C', out])
  const compared = spawnSync('rsync', ['-aHXn', '--delete', '-i', '--checksum', `${live}/`, `${out}/`], {
    encoding: 'utf8',
  })
  if (compared.error === undefined) assert.equal(compared.stdout, '')
  const refused = join(root, 'out/b.tar.zst')
  assertError(await hotspare('archive', target, refused, '--consistent'), 'target-incomplete')
  assert.deepEqual(fs.readdirSync(join(root, 'out')), ['a.tar.zst'])
})

test('content of a directory that was changed in the copy is not archived, and the copy is blamed, not the archive', async () => {
  const live = join(root, 'live')
  for (let n = 0; n < 100; n++) fs.writeFileSync(join(live, `file ${n}`), `content ${n}`)
  fs.writeFileSync(join(live, 'large'), Buffer.alloc(5_000_000, 'large '))
  const target = join(root, 'copy')
  assert.equal((await hotspare('follow', live, target, '--once', '--driver', 'directory')).exit, 0)
  const file = join(root, 'out/kept.tar.zst')
  fs.writeFileSync(file, 'of yesterday')
  const refusedAfter = async (name: string, change: (path: string) => void, found: RegExp) => {
    const path = join(target, name)
    const before = fs.readFileSync(path)
    change(path)
    const failed = await hotspare('archive', target, file)
    assertError(failed, 'digest-mismatch')
    assert.match(failed.stderr, found)
    assertError(await hotspare('archive', target, '-', '--format', 'tar'), 'digest-mismatch')
    assert.equal(fs.readFileSync(file, 'utf8'), 'of yesterday')
    assert.deepEqual(fs.readdirSync(join(root, 'out')), ['kept.tar.zst'])
    fs.writeFileSync(path, before)
  }
  await refusedAfter('file 77', path => fs.writeFileSync(path, 'Content 77'), /'file 77'.* from 0/)
  await refusedAfter('file 77', path => fs.writeFileSync(path, 'short'), /'file 77'/)
  await refusedAfter(
    'large',
    path => {
      const fd = fs.openSync(path, 'r+')
      fs.writeSync(fd, 'X', 3_000_000)
      fs.closeSync(fd)
    },
    /'large'.* from 2097152/,
  )
  assert.equal((await hotspare('archive', target, file)).exit, 0)
})

test('a reader of the output who goes away ends it quietly', async () => {
  const target = await sqliteCopy()
  const { stdout, stderr } = spawnSync(
    'sh',
    ['-c', `"$0" "$1" archive "$2" - --format tar | head -c 10 | wc -c`, process.execPath, main, target],
    { encoding: 'utf8' },
  )
  assert.equal(stdout.trim(), '10')
  assert.equal(stderr.includes('    at '), false, stderr)
})

test('the library archives, lists and verifies, and ends at a signal', async () => {
  const target = await sqliteCopy()
  const to = join(root, 'out/library.tar.gz')
  const result = await archive({ target, to, level: 1 })
  assert.equal(result.file, to)
  assert.equal(result.members, 1)
  const paths: string[] = []
  for await (const { path } of listArchive({ file: to })) paths.push(path)
  assert.deepEqual(paths, ['copy'])
  const verified = await verifyArchive({ file: to, against: target })
  assert.equal(verified.valid, true)
  assert.equal(verified.against, target)
  const aborted = AbortSignal.abort()
  await assert.rejects(archive({ target, to: join(root, 'out/no.tar'), signal: aborted }), {
    name: 'AbortError',
  })
  await assert.rejects(verifyArchive({ file: to, signal: aborted }), { name: 'AbortError' })
  await assert.rejects(archive({ target, to: 'no-kind' }), HotspareError)
  assert.deepEqual(fs.readdirSync(join(root, 'out')), ['library.tar.gz'])
})

import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import * as fs from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { after, before, test } from 'node:test'

const project = join(import.meta.dirname, '..')
let root: string
let installed: string

/** The Node.js that runs this test first on the PATH: what npm and the shebang then find. */
const environment = { ...process.env, PATH: `${dirname(process.execPath)}:${process.env.PATH}` }

function run(
  command: string,
  args: readonly string[],
  cwd: string,
): { stdout: string; status: number | null } {
  const { stdout, stderr, status, error } = spawnSync(command, args, {
    cwd,
    env: environment,
    encoding: 'utf8',
    timeout: 180_000,
  })
  assert.equal(error, undefined, `${command} ${args.join(' ')}: ${error?.message}`)
  assert.equal(status, 0, `${command} ${args.join(' ')}:\n${stdout}${stderr}`)
  return { stdout, status }
}

before(async () => {
  root = await fs.mkdtemp(join(tmpdir(), 'hotspare-package-'))
  run('npm', ['run', 'build'], project)
  run('npm', ['pack', '--pack-destination', root], project)
  installed = join(root, 'empty')
  await fs.mkdir(installed)
  const tarball = (await fs.readdir(root)).find(name => name.endsWith('.tgz'))
  assert.ok(tarball)
  run('npm', ['install', '--no-audit', '--no-fund', join(root, tarball)], installed)
})
after(() => fs.rm(root, { recursive: true }))

test('the published package, installed in an empty directory, gives its version', async () => {
  const { version } = JSON.parse(await fs.readFile(join(project, 'package.json'), 'utf8'))
  const { stdout } = run(join(installed, 'node_modules/.bin/hotspare'), ['--version'], installed)
  assert.equal(stdout, `${version}\n`)
})

test('the published package follows, checks and clones', async () => {
  const hotspare = join(installed, 'node_modules/.bin/hotspare')
  const database = join(root, 'app.db')
  const make = `const { DatabaseSync } = require('node:sqlite')
    const db = new DatabaseSync(process.argv[1])
    db.exec('PRAGMA journal_mode = wal; CREATE TABLE t (n); INSERT INTO t VALUES (42)')`
  run(process.execPath, ['--eval', make, database], root)
  run(hotspare, ['follow', database, join(root, 'copy.db'), '--once'], root)
  run(hotspare, ['check', join(root, 'copy.db'), '--against', database], root)
  run(hotspare, ['clone', join(root, 'copy.db'), join(root, 'clone.db')], root)
  const read = `const { DatabaseSync } = require('node:sqlite')
    process.stdout.write(String(new DatabaseSync(process.argv[1]).prepare('SELECT n FROM t').get().n))`
  assert.equal(run(process.execPath, ['--eval', read, join(root, 'clone.db')], root).stdout, '42')
})

test('the published package shows the demo, with its applications in processes of their own', () => {
  const { stdout } = run(
    join(installed, 'node_modules/.bin/hotspare'),
    ['demo', '--seconds', '5', '--json'],
    root,
  )
  assert.equal(JSON.parse(stdout.trimEnd().split('\n').at(-1) ?? '').ok, true)
})

test('the published package is a library with types', async () => {
  const program = `import { check, clone, drivers, follow, HotspareError, status } from 'hotspare'
    const all = [check, clone, drivers, follow, status].every(f => typeof f === 'function')
    const error = await follow({ source: '/nowhere/at/all', target: './x', once: true }).catch(e => e)
    if (!all || !(error instanceof HotspareError) || error.code !== 'source-missing') throw error`
  run(process.execPath, ['--input-type=module', '--eval', program], installed)
  const typed = `import { type FollowEvent, follow } from 'hotspare'
    const seen: FollowEvent['event'][] = []
    await follow({ source: 'a', target: 'b', onEvent: event => void seen.push(event.event) })\n`
  await fs.writeFile(join(installed, 'typed.mts'), typed)
  const compiler = join(project, 'node_modules/.bin/tsc')
  const types = ['--typeRoots', join(project, 'node_modules/@types'), '--types', 'node']
  const options = ['--noEmit', '--strict', '--module', 'nodenext', '--target', 'es2024', ...types]
  run(compiler, [...options, 'typed.mts'], installed)
})

test('the published package holds no tests and no sources', async () => {
  const packed = await fs.readdir(join(installed, 'node_modules/hotspare'), { recursive: true })
  const own = packed.filter(path => !path.startsWith('node_modules'))
  assert.deepEqual(
    own.filter(path => /\.test\.|\/testing\/|(?<!\.d)\.ts$/.test(path)),
    [],
  )
  assert.ok(own.includes('LICENSE') && own.includes('README.md'))
})

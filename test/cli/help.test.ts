import assert from 'node:assert/strict'
import * as fs from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { errorCodes } from '../../src/os/errors.ts'
import { hotspare, main, Run } from './hotspare.ts'

const commands =
  'follow mirror clone check archive status serve init service query stats enqueue apply probe wait promote rejoin release drivers demo'.split(
    ' ',
  )
/** Whose examples are of more than one host, or of its own commands. */
const others = ['pair', 'queue', 'link']
const queueCommands = ['show', 'verify', 'first', 'clear', 'move']
const { version } = JSON.parse(
  await fs.readFile(join(import.meta.dirname, '../../package.json'), 'utf8'),
) as { version: string }

test('every command tells its version, and teaches by examples', async () => {
  for (const command of commands) {
    assert.equal((await hotspare(command, '--version')).stdout, `${version}\n`)
    const { exit, stdout } = await hotspare(command, '--help')
    assert.equal(exit, 0)
    assert.match(stdout, new RegExp(`Examples:\\n {2}hotspare ${command}`))
    for (const option of ['--json', '--quiet']) assert.ok(stdout.includes(option), `${command} ${option}`)
  }
})

test('what is done to the log is found by its name, each with the options of all commands', async () => {
  const { exit, stdout } = await hotspare('queue', '--help')
  assert.equal(exit, 0)
  for (const command of queueCommands) {
    assert.match(stdout, new RegExp(`^ {2}${command} `, 'm'))
    const help = (await hotspare('queue', command, '--help')).stdout
    for (const option of ['--json', '--quiet']) assert.ok(help.includes(option), `queue ${command} ${option}`)
  }
})

test('without a command the help is shown, as a mistake', async () => {
  const { exit, stderr } = await hotspare()
  assert.equal(exit, errorCodes.usage.exit)
  const shown = [...stderr.matchAll(/^ {2}([a-z]+) /gm)]
    .map(match => match[1])
    .filter(name => name !== 'help')
  for (const command of shown) assert.ok([...commands, ...others, 'hotspare'].includes(`${command}`), command)
  for (const command of [...commands, ...others]) assert.ok(shown.includes(command), command)
})

test('an old Node.js is told what it lacks, with the status of the table', async () => {
  const pretend =
    'Object.defineProperty(process, "versions", { value: { ...process.versions, node: "20.19.5" } })'
  const older = (...args: string[]) =>
    new Run(process.execPath, ['--import', `data:text/javascript,${pretend}`, main, ...args]).end()
  const { exit, stderr } = await older('follow', 'a', 'b')
  assert.equal(exit, errorCodes['node-too-old'].exit)
  assert.match(stderr, /^hotspare: Node\.js 24 or newer is needed; this is 20\.19\.5 .*\(node-too-old\)\n$/)
  assert.equal(JSON.parse((await older('drivers', '--json')).stderr).error.code, 'node-too-old')
})

test('drivers lists what there is, and fails for what none of them knows', async () => {
  const { drivers } = JSON.parse((await hotspare('drivers', '--json')).stdout)
  assert.deepEqual(drivers.map((driver: { name: string }) => driver.name).sort(), [
    'directory',
    'packs',
    'sqlite',
  ])
  assert.equal((await hotspare('drivers', main)).exit, errorCodes['source-unknown'].exit)
  assert.equal((await hotspare('drivers', '/no/such/path')).exit, errorCodes['source-missing'].exit)
})

test('colours appear on a terminal only, and not with NO_COLOR', async () => {
  const { stdout } = await hotspare('drivers')
  assert.equal(stdout.includes('\x1b['), false)
})

test('compiled code is kept for the next start only where nobody else can write', async t => {
  const home = await fs.mkdtemp(join(tmpdir(), 'hotspare-home-'))
  t.after(() => fs.rm(home, { recursive: true }))
  const started = async () => {
    const command = ['-u', 'XDG_CACHE_HOME', `HOME=${home}`, process.execPath, main, '--version']
    assert.equal((await new Run('env', command).end()).exit, 0)
    return await fs.readdir(home)
  }
  await fs.chmod(home, 0o777)
  assert.deepEqual(await started(), [])
  await fs.chmod(home, 0o700)
  assert.deepEqual(await started(), ['.cache'])
  assert.notEqual((await fs.readdir(join(home, '.cache', 'hotspare'))).length, 0)
})

/** Pairing as people do it, from two command lines. */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { fileURLToPath } from 'node:url'

const hotspare = fileURLToPath(new URL('../src/cli/main.ts', import.meta.url))

function servers(t: TestContext) {
  const directory = mkdtempSync(join(tmpdir(), 'hotspare-pair-'))
  t.after(() => rmSync(directory, { recursive: true }))
  const config = (name: string, other: string, role: string) => {
    mkdirSync(join(directory, name))
    const file = join(directory, name, 'hotspare.yaml')
    writeFileSync(
      file,
      `set: shop\nname: ${name}\n${role}\nstate: state\nstores: [{path: app.db, driver: sqlite}]\npeers: [{name: ${other}}]\n`,
    )
    return file
  }
  return {
    directory,
    alpha: config('alpha', 'beta', 'role: primary'),
    beta: config('beta', 'alpha', 'role: standby\nupstream: alpha'),
  }
}

function run(input: string, ...given: string[]) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [hotspare, 'pair', ...given], {
    input,
    encoding: 'utf8',
  })
  return { status, stdout, stderr }
}

test('what one command line prints the other takes, from standard input or a file, and nothing but the token is printed', t => {
  const { directory, alpha, beta } = servers(t)
  const made = run('', 'beta', '-c', alpha, '--address', 'tcp://alpha.example.org:2000')
  assert.equal(made.status, 0, made.stderr)
  assert.match(made.stdout, /^hotspare-pair-1\.[A-Za-z0-9_-]+\n$/)
  const taken = run(made.stdout, '--take', '-c', beta)
  assert.equal(taken.status, 0, taken.stderr)
  assert.match(taken.stdout, /paired with alpha.*tcp:\/\/alpha\.example\.org:2000/s)
  const file = join(directory, 'token')
  writeFileSync(file, made.stdout, { mode: 0o600 })
  assert.equal(run('', '--token-file', file, '-c', beta).status, 0)
  const secretOf = (name: string, peer: string) =>
    JSON.parse(readFileSync(join(directory, name, 'state/peers', `${peer}.json`), 'utf8')).secret
  assert.equal(secretOf('alpha', 'beta'), secretOf('beta', 'alpha'))
  assert.deepEqual(readdirSync(join(directory, 'beta/state')).sort(), ['link.pem', 'peers'])
})

test('a token on the command line is refused, and not repeated; one that is mistyped is named', t => {
  const { alpha, beta } = servers(t)
  const { stdout } = run('', 'beta', '-c', alpha)
  const token = stdout.trim()
  const given = run('', token, '-c', beta)
  assert.equal(given.status, 2)
  assert.match(given.stderr, /not given on the command line/)
  assert.ok(!given.stderr.includes(token.slice(20, 60)))
  const mistyped = run(`${token.slice(0, -1)}${token.endsWith('A') ? 'B' : 'A'}`, '--take', '-c', beta)
  assert.equal(mistyped.status, 2)
  assert.match(mistyped.stderr, /a letter is wrong or missing/)
  assert.equal(run('', '--take', 'beta', '-c', alpha).status, 2)
  assert.equal(run('', '-c', alpha).status, 2)
})

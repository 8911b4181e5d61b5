import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import * as fs from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { after, before, test } from 'node:test'

const project = join(import.meta.dirname, '..')
const biome = join(project, 'node_modules/.bin/biome')
let root: string

before(async () => {
  root = await fs.mkdtemp(join(tmpdir(), 'hotspare-imports-'))
  await fs.copyFile(join(project, 'biome.json'), join(root, 'biome.json'))
})
after(() => fs.rm(root, { recursive: true }))

/** From the top: what stands higher may import what stands lower, never the other way round. */
const layers = [
  ['cli', 'web'],
  ['daemon'],
  ['drivers', 'replica', 'archive', 'log', 'link', 'repository', 'failover'],
  ['stream'],
  ['os'],
]

const upward = layers.flatMap((names, level) =>
  names.flatMap(from => layers.slice(0, level).flatMap(higher => higher.map(to => [from, to] as const))),
)
const sideways = [
  ['replica', 'log'],
  ['log', 'link'],
  ['drivers', 'log'],
  ['replica', 'drivers/packs'],
  ['archive', 'replica'],
  ['replica', 'archive'],
  ['drivers', 'archive'],
] as const
const allowed = [
  ['drivers', 'replica'],
  ['replica', 'drivers/driver.ts'],
  ['replica', 'drivers/snapshot.ts'],
  ['archive', 'drivers/snapshot.ts'],
  ['daemon', 'archive'],
  ['cli', 'daemon'],
  ['daemon', 'drivers'],
  ['daemon', 'os'],
  ['stream', 'os'],
] as const

async function lintImport(from: string, to: string): Promise<string> {
  const path = join(root, 'src', from, 'part/example.ts')
  await fs.mkdir(dirname(path), { recursive: true })
  const target = to.endsWith('.ts') ? to : `${to}/example.ts`
  await fs.writeFile(path, `import type { Example } from '../../${target}'\n\nexport type Other = Example\n`)
  const { stdout, stderr, error } = spawnSync(biome, ['lint', path], { cwd: root, encoding: 'utf8' })
  assert.equal(error, undefined)
  await fs.rm(path)
  return stdout + stderr
}

test('lint refuses every import against the direction, and says what the direction is', async () => {
  for (const [from, to] of [...upward, ...sideways]) {
    const said = await lintImport(from, to)
    assert.match(said, /noRestrictedImports/, `${from} -> ${to}`)
    assert.match(said, new RegExp(`src/${from}/ (imports|must)`), `${from} -> ${to}`)
  }
})

test('lint lets every import in the direction pass', async () => {
  for (const [from, to] of allowed) {
    assert.doesNotMatch(await lintImport(from, to), /noRestrictedImports/, `${from} -> ${to}`)
  }
})

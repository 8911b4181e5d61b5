/** A real application of the kind that is mirrored: pages, their old revisions and two logs of changes must agree. */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import * as fs from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import { killStarted, object, start } from './cli/hotspare.ts'
import { installWiki, recipeFor, WikiServer, wikiInstalled } from './dokuwiki/wiki.ts'
import { WikiEditors } from './dokuwiki/wiki-editors.ts'
import { judgeWiki } from './dokuwiki/wiki-judge.ts'

const enginesRequired = process.env.HOTSPARE_REQUIRE_ENGINES === '1'
const skip =
  wikiInstalled() || enginesRequired
    ? false
    : 'dokuwiki is missing: apt-get install -y --no-install-recommends dokuwiki php-cli php-xml'
const editorsAtOnce = 4
const attemptsMax = 10
const waitMsMax = 20_000

let root: string
let site: string
let recipe: ReturnType<typeof recipeFor>
let editors: WikiEditors | undefined
const servers: WikiServer[] = []

beforeEach(() => {
  root = fs.mkdtempSync(join(tmpdir(), 'hotspare-wiki-'))
  site = join(root, 'site')
  recipe = recipeFor(join(root, 'gate'))
})
afterEach(async () => {
  killStarted()
  await editors?.stop()
  editors = undefined
  for (const server of servers.splice(0)) await server.stop()
  fs.rmSync(root, { recursive: true, force: true, maxRetries: 3 })
})

const shell = (command: string) => promisify(execFile)('sh', ['-c', command], { timeout: waitMsMax })

async function serve(tree: string): Promise<WikiServer> {
  const server = await WikiServer.start(tree, root)
  servers.push(server)
  return server
}

async function until(condition: () => boolean, what: string): Promise<void> {
  const deadlineMs = performance.now() + waitMsMax
  while (!condition()) {
    assert.ok(performance.now() < deadlineMs, `not within ${waitMsMax} ms: ${what}`)
    await sleep(10)
  }
}

async function savesMore(saves: number): Promise<void> {
  const from = editors?.saves.length ?? 0
  await until(() => (editors?.saves.length ?? 0) >= from + saves, `${saves} more saves`)
}

/** Every page stands in this copy as it was saved last before one moment, or by a save that was begun before another. */
function assertNoSaveLost(data: string, endedBeforeMs: number, startedBeforeMs: number): void {
  const wrong: string[] = []
  for (const [page, { possible }] of editors?.texts(endedBeforeMs, startedBeforeMs) ?? []) {
    const path = join(data, 'pages', `${page.replaceAll(':', '/')}.txt`)
    const text = fs.existsSync(path) ? fs.readFileSync(path, 'utf8') : ''
    if (!possible.has(text)) wrong.push(`${page} has '${text.slice(0, 40)}'`)
  }
  assert.deepEqual(wrong, [])
}

test('a wiki copied while it is edited is torn; at the gate of the recipe it is whole, and no save is refused', {
  skip,
  timeout: 120_000,
}, async () => {
  installWiki(site, join(root, 'gate'))
  editors = new WikiEditors(await serve(site), editorsAtOnce)
  await savesMore(200)
  let torn = 0
  for (let attempt = 1; attempt <= attemptsMax && torn === 0; attempt++) {
    // cp says so when a name has gone while it copied
    await shell(`cp -a '${site}/data' '${root}/torn-${attempt}' || test $? = 1`)
    torn = judgeWiki(join(root, `torn-${attempt}`)).tears.length
  }
  assert.ok(torn > 0, `none of ${attemptsMax} copies was torn`)

  for (let window = 1; window <= 3; window++) {
    await savesMore(50)
    const enteringMs = performance.now()
    await shell(recipe.enter)
    await shell(recipe.verify)
    const heldMs = performance.now()
    const copy = join(root, `whole-${window}`)
    await shell(`cp -a '${site}/data' '${copy}'`)
    await shell(recipe.leave)
    await assert.rejects(shell(recipe.verify))
    assert.deepEqual(judgeWiki(copy).tears, [])
    assertNoSaveLost(copy, enteringMs, heldMs)
  }
  await savesMore(50)
  await editors.stop()
  assert.deepEqual(editors.refused, [])
  assert.deepEqual(judgeWiki(join(site, 'data')).tears, [])
  assertNoSaveLost(join(site, 'data'), Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY)
  assert.deepEqual(servers[0]?.faults, [])
})

/** Mirrors the whole installation at its gate, and proves the mirror. Gives where a clone of it stands. */
async function mirrorAndProve(target: string, name: string): Promise<string> {
  const { enter, verify, leave } = recipe
  const commands = ['--enter', enter, '--verify', verify, '--leave', leave]
  const beganMs = performance.now()
  const run = start('mirror', site, target, ...commands, '--json')
  const { exit, stderr } = await run.end()
  const endedMs = performance.now()
  assert.equal(exit, 0, stderr)
  const result = run.lines.at(-1) as { changedCount: number; heldMs: number; entered: boolean } | undefined
  assert.equal(result?.entered, true)
  assert.equal(result.changedCount, 0)
  const clone = join(root, name)
  await object('clone', target, clone)
  assert.deepEqual(judgeWiki(join(clone, 'data')).tears, [])
  assertNoSaveLost(join(clone, 'data'), beganMs, endedMs)
  return clone
}

test('mirrored at its gate while it is edited, a wiki is whole in every mirror, no save is lost or refused, and a server of the mirror shows the newest pages', {
  skip,
  timeout: 180_000,
}, async t => {
  installWiki(site, join(root, 'gate'))
  const live = await serve(site)
  editors = new WikiEditors(live, editorsAtOnce)
  const target = join(root, 'mirror')
  await savesMore(200)
  for (let window = 1; window <= 2; window++) {
    await mirrorAndProve(target, `alone-${window}`)
    await savesMore(50)
  }
  const follower = start('follow', site, target, '--json')
  await follower.event('live')
  for (let window = 1; window <= 3; window++) {
    await mirrorAndProve(target, `followed-${window}`)
    await savesMore(50)
  }
  t.diagnostic(`the longest save took ${editors.longestMs.toFixed(0)} ms`)
  await editors.stop()
  const clone = await mirrorAndProve(target, 'last')
  assert.equal((await follower.end('SIGTERM')).exit, 0)
  assert.deepEqual(editors.refused, [])
  assert.deepEqual(judgeWiki(join(site, 'data')).tears, [])

  const mirrored = await serve(clone)
  const newest = new Map(editors.saves.map(({ page, text }) => [page, text]))
  for (const [page, text] of [...newest].filter(([, text]) => text !== '').slice(-20)) {
    assert.equal(await mirrored.page(page), text)
  }
  const [page = ''] = [...newest].find(([, text]) => text !== '') ?? []
  assert.equal(await mirrored.save(page, 'edited in the mirror'), true)
  assert.equal(await mirrored.page(page), 'edited in the mirror')
  assert.notEqual(await live.page(page), 'edited in the mirror')
  assert.deepEqual(judgeWiki(join(clone, 'data')).tears, [])
  for (const server of servers) assert.deepEqual(server.faults, [])
})

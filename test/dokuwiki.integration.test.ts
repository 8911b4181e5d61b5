/** A real application of the kind that is mirrored: pages, their old revisions and two logs of changes must agree. */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import * as fs from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
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

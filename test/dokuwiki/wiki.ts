/**
 * A real DokuWiki, from Debian's package, in a directory of its own and served by PHP's own server on loopback. Its
 * maintenance gate and the commands for it are those that docs/recipes/dokuwiki.md shows, read from that page.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import * as fs from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { freePort } from '../../src/os/testing/free-port.ts'

const installed = '/usr/share/dokuwiki'
const recipe = join(import.meta.dirname, '../../docs/recipes/dokuwiki.md')
const recipeGate = '/run/dokuwiki'
const startMsMax = 10_000
const workers = 4

export function wikiInstalled(): boolean {
  if (!fs.existsSync(join(installed, 'doku.php'))) return false
  try {
    return /^xml$/m.test(execFileSync('php', ['-m'], { encoding: 'utf8' }))
  } catch {
    return false
  }
}

/** How the recipe holds a wiki: the code of the gate, and the shell commands, for a gate directory of the test's own. */
export function recipeFor(gate: string) {
  const page = fs.readFileSync(recipe, 'utf8').replaceAll(recipeGate, gate)
  const found = (pattern: RegExp) => {
    const text = pattern.exec(page)?.[1]
    if (text === undefined) throw new Error(`${recipe} has nothing that fits ${pattern}`)
    return text
  }
  return {
    preload: found(/```php\n(.*?)```/s),
    enter: found(/^ *--enter '(.*?)'/m),
    verify: found(/^ *--verify '(.*?)'/m),
    leave: found(/^ *--leave '(.*?)'/m),
  }
}

/** A new wiki without pages: program, configuration and data in one tree, as its own archive unpacks. */
export function installWiki(site: string, gate: string): void {
  fs.cpSync(installed, site, { recursive: true, dereference: true })
  for (const name of ['conf', 'data']) fs.rmSync(join(site, name), { recursive: true, force: true })
  fs.mkdirSync(join(site, 'conf'))
  for (const entry of fs.readdirSync('/etc/dokuwiki', { withFileTypes: true })) {
    if (entry.isFile() && entry.name !== 'local.php') {
      fs.copyFileSync(join('/etc/dokuwiki', entry.name), join(site, 'conf', entry.name))
    }
  }
  const settings = ["$conf['title'] = 'Test';", "$conf['useacl'] = 0;", "$conf['savedir'] = './data';"]
  fs.writeFileSync(join(site, 'conf/local.php'), `<?php\n${settings.join('\n')}\n$conf['updatecheck'] = 0;\n`)
  for (const name of [
    'attic',
    'cache',
    'index',
    'locks',
    'log',
    'media',
    'media_attic',
    'media_meta',
    'meta',
    'pages',
    'tmp',
  ]) {
    fs.mkdirSync(join(site, 'data', name), { recursive: true })
  }
  fs.mkdirSync(gate, { recursive: true })
  fs.writeFileSync(join(site, 'inc/preload.php'), recipeFor(gate).preload)
}

/** A server of one wiki: several requests at the same time. */
export class WikiServer {
  readonly url: string
  readonly #process: ChildProcess
  #log = ''

  private constructor(process_: ChildProcess, port: number) {
    this.#process = process_
    this.url = `http://127.0.0.1:${port}`
    process_.stderr?.on('data', data => {
      this.#log = (this.#log + data).slice(-16_384)
    })
  }

  static async start(site: string, scratch: string): Promise<WikiServer> {
    const port = await freePort()
    const sessions = join(scratch, `sessions-${port}`)
    fs.mkdirSync(sessions)
    const settings = ['-d', `session.save_path=${sessions}`, '-d', 'error_log=/dev/stderr']
    // a group of its own, since the server leaves its workers behind when it is killed
    const server = spawn('php', [...settings, '-S', `127.0.0.1:${port}`, '-t', site], {
      detached: true,
      env: { ...process.env, PHP_CLI_SERVER_WORKERS: String(workers) },
      stdio: ['ignore', 'ignore', 'pipe'],
    })
    const wiki = new WikiServer(server, port)
    const deadlineMs = performance.now() + startMsMax
    for (;;) {
      const answer = await fetch(`${wiki.url}/doku.php?id=start&do=export_raw`).catch(() => undefined)
      if (answer !== undefined) return wiki
      if (performance.now() > deadlineMs || server.exitCode !== null) {
        throw new Error(`the wiki does not answer:\n${wiki.log}`)
      }
      await sleep(20)
    }
  }

  /** Faults that PHP wrote down, without the lines that say who asked for what. */
  get faults(): string[] {
    return this.#log.split('\n').filter(line => /PHP (Warning|Fatal|Parse|Notice)/.test(line))
  }

  get log(): string {
    return this.#log
  }

  /** The text of a page as the wiki shows it. */
  async page(id: string): Promise<string> {
    const answer = await fetch(`${this.url}/doku.php?id=${id}&do=export_raw`)
    return answer.text()
  }

  /** Saves as a browser does. Gives whether the wiki took it. An empty text deletes the page. */
  async save(id: string, text: string): Promise<boolean> {
    const body = new URLSearchParams({ id, wikitext: text, summary: `to ${text.length}`, 'do[save]': '1' })
    const answer = await fetch(`${this.url}/doku.php`, { method: 'POST', body, redirect: 'manual' })
    await answer.arrayBuffer()
    return answer.status === 302
  }

  async stop(): Promise<void> {
    if (this.#process.exitCode !== null || this.#process.signalCode !== null) return
    const exited = once(this.#process, 'exit')
    process.kill(-(this.#process.pid as number), 'SIGKILL')
    await exited
  }
}

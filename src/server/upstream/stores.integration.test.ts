/** Real stores on real disks, through a primary's and a standby's sides. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import {
  appendFile,
  chmod,
  link,
  lstat,
  mkdir,
  mkdtemp,
  open,
  readdir,
  readFile,
  readlink,
  rename,
  rm,
  symlink,
  writeFile,
} from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { directoryDriver } from '../../drivers/directory/driver.ts'
import type { Driver } from '../../drivers/driver.ts'
import { packsDriver } from '../../drivers/packs/driver.ts'
import { sqliteDriver } from '../../drivers/sqlite/driver.ts'
import { systemClock } from '../../os/clock.ts'
import { nodeStorage } from '../../os/node-storage.ts'
import type { Storage } from '../../os/storage.ts'
import { storeName } from '../../stream/entry.ts'
import { TestServer } from './testing/test-server.ts'

const store = storeName('store')
const writerScript = fileURLToPath(new URL('../../../test/writers/sqlite-writer.ts', import.meta.url))
const upstreams: Readonly<Record<string, string>> = { b: 'a', c: 'a', d: 'b' }

async function inTime(condition: () => Promise<boolean> | boolean, what: string): Promise<void> {
  const endMs = Date.now() + 30_000
  while (!(await condition())) {
    assert(Date.now() < endMs, `it did not happen: ${what}`)
    await systemClock.sleep(5)
  }
}

class Family {
  readonly servers = new Map<string, TestServer>()
  readonly #driver: Driver
  readonly #root: string

  constructor(driver: Driver, root: string) {
    this.#driver = driver
    this.#root = root
  }

  async open(name: string, storage: Storage = nodeStorage): Promise<TestServer> {
    const root = join(this.#root, name)
    await mkdir(join(root, 'data'), { recursive: true })
    const upstream = upstreams[name]
    const server = await TestServer.open({
      name,
      ...(upstream === undefined ? {} : { upstream }),
      stores: [store],
      clock: systemClock,
      driver: this.#driver,
      ...(this.#driver === packsDriver ? { profile: 'generic' } : {}),
      storage,
      root,
    })
    this.servers.set(name, server)
    return server
  }

  server(name: string): TestServer {
    return this.servers.get(name) as TestServer
  }

  connect(name: string) {
    return this.server(name).connect(this.server(upstreams[name] as string))
  }

  async close(): Promise<void> {
    for (const name of ['d', 'c', 'b', 'a']) await this.servers.get(name)?.stop()
  }
}

interface Application {
  prepare(path: string): Promise<void>
  write(count: number): Promise<void>
  /** The content, as its engine has it. */
  read(path: string): Promise<unknown>
  close(): void
}

class Accounts implements Application {
  #database: DatabaseSync | undefined
  #next = 0

  async prepare(path: string): Promise<void> {
    this.#database = new DatabaseSync(path)
    this.#database.exec('PRAGMA journal_mode=WAL; CREATE TABLE account (id INTEGER PRIMARY KEY, text TEXT)')
    await this.write(3000)
  }

  async write(count: number): Promise<void> {
    this.#database?.exec('BEGIN')
    const insert = this.#database?.prepare('INSERT INTO account VALUES (?, ?)')
    for (let i = 0; i < count; i++) insert?.run(this.#next, `${this.#next++} `.repeat(40))
    this.#database?.exec('COMMIT')
  }

  async read(path: string): Promise<unknown> {
    const database = new DatabaseSync(path, { readOnly: true })
    try {
      assert.equal(database.prepare('PRAGMA integrity_check').get()?.integrity_check, 'ok')
      return database.prepare('SELECT count(*) AS count, sum(length(text)) AS bytes FROM account').get()
    } finally {
      database.close()
    }
  }

  close(): void {
    this.#database?.close()
  }
}

class PackWriter implements Application {
  #path = ''
  #next = 0

  async prepare(path: string): Promise<void> {
    this.#path = path
    await mkdir(path)
    await this.write(500)
  }

  async write(count: number): Promise<void> {
    for (let i = 0; i < count; i++) {
      const pack = String(1 + Math.floor(this.#next / 400)).padStart(8, '0')
      await appendFile(join(this.#path, `${pack}.log`), `${this.#next++} `.repeat(100))
    }
  }

  async read(path: string): Promise<unknown> {
    const names = (await readdir(path)).sort()
    return Promise.all(names.map(async name => [name, (await readFile(join(path, name))).toString('latin1')]))
  }

  close(): void {}
}

/** Files, directories, links, attributes: made, changed, renamed and removed. */
class Tree implements Application {
  #path = ''
  #next = 0

  async prepare(path: string): Promise<void> {
    this.#path = path
    await mkdir(join(path, 'd', 'e'), { recursive: true })
    await symlink('d/e', join(path, 'short'))
    await writeFile(join(path, 'large'), Buffer.alloc(3 * 1024 * 1024 + 17, 'large'))
    await this.write(40)
  }

  async write(count: number): Promise<void> {
    for (let i = 0; i < count; i++) {
      const at = join(this.#path, ['.', 'd', 'd/e'][this.#next % 3] as string, `f${this.#next % 50}`)
      this.#next++
      switch (this.#next % 7) {
        case 0:
          await rm(at, { force: true })
          break
        case 1:
          await rm(`${at}-linked`, { force: true })
          await writeFile(at, `${this.#next}`)
          await link(at, `${at}-linked`)
          break
        case 2:
          await writeFile(at, '')
          await chmod(at, 0o640)
          break
        case 3:
          await writeFile(at, `${this.#next} `.repeat(1000))
          await rename(at, `${at}-renamed`)
          break
        default:
          await appendFile(at, `${this.#next}`)
      }
    }
    const file = await open(join(this.#path, 'large'), 'r+')
    await file.write(`${this.#next}`, (this.#next * 70_001) % 3_000_000)
    await file.close()
  }

  async read(path: string): Promise<unknown> {
    const names = (await readdir(path, { recursive: true })).sort()
    return Promise.all(
      names.map(async name => {
        const at = join(path, name)
        const stat = await lstat(at)
        const content = stat.isSymbolicLink()
          ? await readlink(at)
          : stat.isFile()
            ? createHash('sha1')
                .update(await readFile(at))
                .digest('hex')
            : ''
        return [name, stat.mode, stat.isDirectory() ? 0 : stat.nlink, Math.floor(stat.mtimeMs), content]
      }),
    )
  }

  close(): void {}
}

const cases: Readonly<Record<string, readonly [Driver, () => Application]>> = {
  sqlite: [sqliteDriver, () => new Accounts()],
  packs: [packsDriver, () => new PackWriter()],
  directory: [directoryDriver, () => new Tree()],
}

for (const [name, [driver, newApplication]] of Object.entries(cases)) {
  test(`${name}: copies near and far follow, survive breaks and restarts, and end equal`, async () => {
    const root = await mkdtemp(join(tmpdir(), 'hotspare-upstream-'))
    const family = new Family(driver, root)
    const application = newApplication()
    try {
      await mkdir(join(root, 'a', 'data'), { recursive: true })
      const live = join(root, 'a', 'data', store)
      await application.prepare(live)
      const a = await family.open('a')
      await family.open('b')
      const first = family.connect('b')
      await inTime(() => first.serving.state === 'shipping' && first.serving.caughtUp, 'b is synchronised')
      assert.equal(a.log.next, 1, 'nothing of the first copy went through the log')
      for (let i = 0; i < 20; i++) await application.write(10)
      // one beside it, and one below it
      await family.open('c')
      family.connect('c')
      await family.open('d')
      family.connect('d')
      for (let i = 0; i < 20; i++) {
        await application.write(10)
        await systemClock.sleep(2)
      }
      await assertEqual(family, application, live)
      // the primary's process ends, and writing goes on
      first.break()
      await a.upstream.close()
      await a.log.close()
      await application.write(100)
      await a.start()
      family.connect('b')
      family.connect('c')
      await application.write(50)
      await assertEqual(family, application, live)
      for (const server of family.servers.values()) assert.equal(server.failed, undefined)
    } catch (error) {
      for (const server of family.servers.values())
        console.log(
          server.name,
          server.messages,
          server.failed,
          server.upstream.stores(),
          server.downstream?.stores(),
        )
      throw error
    } finally {
      application.close()
      await family.close()
      await rm(root, { recursive: true })
    }
  })
}

test('sqlite: with a writer at full speed standbys come, and reading is interrupted, without a transaction lost or refused', async () => {
  const root = await mkdtemp(join(tmpdir(), 'hotspare-upstream-'))
  const family = new Family(sqliteDriver, root)
  try {
    await mkdir(join(root, 'a', 'data'), { recursive: true })
    const live = join(root, 'a', 'data', store)
    const writer = spawn(process.execPath, [writerScript, live, '--seconds', '6', '--rows', '3'], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    const written = once(writer, 'exit')
    await once(writer.stdout, 'data')
    writer.stdout.resume()
    let beforeOwed: () => Promise<void> = async () => {}
    const a = await family.open('a', {
      ...nodeStorage,
      async rename(from, to) {
        if (String(to).endsWith('/below.json')) await beforeOwed()
        await nodeStorage.rename(from, to)
      },
    })
    for (const name of ['b', 'c', 'd']) {
      await family.open(name)
      if (name === 'c') {
        // what its log was to begin with is removed meanwhile, since 'b' has it
        const { first } = a.log
        beforeOwed = () => inTime(() => a.log.first > first, 'the log is trimmed')
      }
      const { serving } = family.connect(name)
      await inTime(() => serving.state === 'shipping', `${name} is synchronised`)
      for (let i = 0; i < 20; i++) await a.upstream.drain(AbortSignal.timeout(20_000))
    }
    await written
    for (const name of ['b', 'c']) await a.upstream.waitFor(name, AbortSignal.timeout(40_000))
    const expected = entriesOf(live)
    for (const name of ['b', 'c', 'd']) {
      const server = family.server(name)
      await inTime(
        () => JSON.stringify(entriesOf(server.pathOf(store))) === JSON.stringify(expected),
        `${name} is equal`,
      )
      await inTime(() => server.downstream?.stores()[0]?.state === 'applying', `${name} applies`)
    }
    const codes = [...family.servers.values()].flatMap(({ messages }) => messages.map(({ code }) => code))
    for (const code of ['store-quarantined', 'comparing', 'store-out-of-step', 'digest-mismatch'])
      assert(!codes.includes(code), code)
  } catch (error) {
    for (const server of family.servers.values())
      console.log(
        server.name,
        server.messages,
        server.failed,
        server.upstream.stores(),
        server.downstream?.stores(),
      )
    throw error
  } finally {
    await family.close()
    await rm(root, { recursive: true })
  }
})

function entriesOf(path: string): unknown {
  const database = new DatabaseSync(path, { readOnly: true })
  try {
    return database.prepare('SELECT count(*) AS count, max(number) AS last FROM entry').get()
  } finally {
    database.close()
  }
}

async function assertEqual(family: Family, application: Application, live: string): Promise<void> {
  const a = family.server('a')
  for (const name of ['b', 'c']) await a.upstream.waitFor(name, AbortSignal.timeout(40_000))
  const expected = await application.read(live)
  for (const server of [...family.servers.values()].slice(1)) {
    const { name } = server
    let found: unknown
    await inTime(async () => {
      found = await application.read(server.pathOf(store)).catch(() => undefined)
      return JSON.stringify(found) === JSON.stringify(expected)
    }, `${name} is equal`).catch(error => {
      assert.deepEqual(found, expected, `${name}: ${String(error)}`)
    })
  }
}

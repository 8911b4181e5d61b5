/** What writes the stores of a set at full speed, one process each, and what a copy of each store must be. */
import assert from 'node:assert/strict'
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import * as fs from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { setTimeout as sleep } from 'node:timers/promises'
import { judgePacks } from '../../src/drivers/packs/testing/pack-store.ts'
import type { Random } from '../../src/os/testing/random.ts'
import { judgeTree } from '../writers/tree-judge.ts'
import type { StorePlan } from './server-set.ts'

export interface StoreKind {
  readonly plan: StorePlan
  /** The command of its writer: it prints the last number that is committed as it goes. */
  writer(path: string, random: Random): readonly string[]
  /** Throws when it is not whole, or lacks what was promised. */
  judge(path: string, promised: number): void
  /** Throws when a copy, which nobody writes to any more, is not what the live store is. */
  assertEqual(live: string, copy: string): void
}

const script = (name: string) => join(import.meta.dirname, '../..', name)
const tool = (program: string, ...args: string[]) =>
  execFileSync(program, args, { encoding: 'utf8', maxBuffer: 1024 * 1024 * 1024 })

export const database: StoreKind = {
  plan: { name: 'app.db', driver: 'sqlite' },
  writer(path, random) {
    // in turns: as fast as it goes; many small transactions; few large ones
    const pace = random.pick([
      ['--seconds', '4', '--pause-ms', '0'],
      ['--seconds', '15', '--pause-ms', '1'],
      ['--seconds', '8', '--pause-ms', '20', '--rows', '2000'],
    ])
    return [process.execPath, script('test/writers/sqlite-writer.ts'), path, ...pace]
  },
  judge(path, promised) {
    const opened = new DatabaseSync(path, { timeout: 10_000 })
    try {
      const { integrity_check: integrity } = opened.prepare('PRAGMA integrity_check').get() as {
        integrity_check: unknown
      }
      const figures = opened
        .prepare(
          'SELECT max(number) AS last, count(*) AS rows, (SELECT sum(balance) FROM account) AS sum FROM entry',
        )
        .get() as { last: number | null; rows: number; sum: number }
      const { last, rows, sum } = figures
      assert.deepEqual({ integrity, rows, sum }, { integrity: 'ok', rows: last ?? 0, sum: 0 }, path)
      assert.ok((last ?? 0) >= promised, `${path} has ${last}, and ${promised} were promised`)
    } finally {
      opened.close()
    }
  },
  assertEqual(live, copy) {
    for (const path of [live, copy]) assert.equal(tool('sqlite3', path, 'PRAGMA integrity_check'), 'ok\n')
    const sum = (path: string) => tool('sh', '-c', 'sqlite3 "$0" .dump | sha256sum', path)
    assert.equal(sum(copy), sum(live), `${copy} is not ${live}`)
  },
}

export const packs: StoreKind = {
  plan: { name: 'events.rdm', driver: 'packs', profile: 'rdm' },
  writer: path => [
    process.execPath,
    script('src/drivers/packs/testing/pack-writer.ts'),
    path,
    '1000000',
    '30000',
    '3000000',
  ],
  judge(path, promised) {
    const last = judgePacks(path)
    assert.ok(last >= promised, `${path} has ${last}, and ${promised} were promised`)
  },
  assertEqual(live, copy) {
    tool('diff', '-r', live, copy)
  },
}

export const tree: StoreKind = {
  plan: { name: 'tree', driver: 'directory' },
  writer: (path, random) => [
    process.execPath,
    script('test/writers/tree-writer.ts'),
    path,
    String(random.below(1_000_000)),
  ],
  judge: judgeTree,
  assertEqual(live, copy) {
    const lines = tool('rsync', '-aHAXn', '--checksum', '--delete', '-i', `${live}/`, `${copy}/`).split('\n')
    // a symbolic link's second name is a link of its own in a copy, alike in all but that
    const differs = lines.filter(line => line !== '' && !line.startsWith('hL   '))
    assert.deepEqual(differs.slice(0, 20), [], `${copy} is not ${live}`)
  },
}

export const storeKinds: readonly StoreKind[] = [database, packs, tree]

/** One writer a store, started again when it has ended. */
export class Application {
  readonly #random: Random
  readonly #writers = new Map<StoreKind, ChildProcess>()
  readonly #committed = new Map<StoreKind, number>()
  #pathOf: ((kind: StoreKind) => string) | undefined
  readonly #pids: string
  readonly #kinds: readonly StoreKind[]

  /** `pids` is a file with the process numbers of those that write, one a line. */
  constructor(random: Random, pids: string, kinds: readonly StoreKind[] = storeKinds) {
    this.#random = random
    this.#pids = pids
    this.#kinds = kinds
  }

  get runs(): boolean {
    return this.#pathOf !== undefined
  }

  committed(kind: StoreKind): number {
    return this.#committed.get(kind) ?? 0
  }

  /** Resolves when each has committed something. */
  async start(pathOf: (kind: StoreKind) => string): Promise<void> {
    assert.equal(this.#pathOf, undefined, 'the application runs already')
    this.#committed.clear()
    this.#pathOf = pathOf
    for (const kind of this.#kinds) this.#start(kind)
    while (this.#kinds.some(kind => !this.#committed.has(kind))) await sleep(20)
  }

  #start(kind: StoreKind): void {
    const path = this.#pathOf?.(kind)
    if (path === undefined) return
    const [program = '', ...args] = kind.writer(path, this.#random)
    const writer = spawn(program, args, { stdio: ['ignore', 'pipe', 'inherit'] })
    this.#writers.set(kind, writer)
    this.#notePids()
    let rest = ''
    writer.stdout.on('data', data => {
      const lines = `${rest}${data}`.split('\n')
      rest = lines.pop() ?? ''
      const number = Number(lines.at(-1)?.replace(/\D/g, ''))
      if (lines.length > 0 && this.#writers.get(kind) === writer) this.#committed.set(kind, number)
    })
    writer.once('close', () => {
      if (this.#writers.get(kind) !== writer) return
      this.#writers.delete(kind)
      this.#notePids()
      this.#start(kind)
    })
  }

  #notePids(): void {
    const pids = [...this.#writers.values()].map(({ pid }) => `${pid}\n`)
    fs.writeFileSync(`${this.#pids}.new`, pids.join(''))
    fs.renameSync(`${this.#pids}.new`, this.#pids)
  }

  /** One of them dies, and is started again. */
  kill(kind: StoreKind): void {
    this.#writers.get(kind)?.kill('SIGKILL')
  }

  /** No writer is started any more, whatever ends those that run. */
  retire(): void {
    this.#pathOf = undefined
  }

  /** As a host dies with all that runs on it. */
  async end(): Promise<void> {
    this.retire()
    await Promise.all(
      [...this.#writers.values()].map(async writer => {
        writer.kill('SIGKILL')
        if (writer.exitCode === null && writer.signalCode === null) await once(writer, 'close')
      }),
    )
    this.#writers.clear()
  }
}

/**
 * Real servers that are killed at random under writers at full speed, and what must hold all along:
 *
 *     no loss           what `wait` promised of a standby is there when that one is promoted
 *     whole             a clone of any copy, at any time, is whole: nothing that nobody committed, no gap
 *     nobody gives up   no server ends by itself, and none finds a fault in what a kill left
 *     equal at the end  when all is well again, each copy is what the newest primary's store is
 */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import * as fs from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { Random } from '../../src/os/testing/random.ts'
import type { PromotionReport, ServerStatus, StoreStatus } from '../../src/server/server.ts'
import { compareEpochs, type Epoch } from '../../src/stream/epoch.ts'
import { main } from '../cli/hotspare.ts'
import { Application, type StoreKind, storeKinds, tree } from './application.ts'
import { configureSet, type ServeProcess, type ServerPlan } from './server-set.ts'

const stores = storeKinds.map(({ plan }) => plan)
/** Who is in cascade takes its log from the standby, whatever happens. */
const cascaded = 'gamma'
const settleMsMax = 180_000
const undisturbedMs = 4_000
/** A directory without a window has whole passes, and none that is consistent. */
function isWell({ store, state, number, consistent }: StoreStatus): boolean {
  return state === 'applying' && (store === tree.plan.name ? number : consistent) !== undefined
}

/** What a directory without a window has is not consistent, and is promoted by force only. */
const force = true
/** What a kill may never make a server say. */
const faults = [
  'bug',
  'digest-mismatch',
  'diverged',
  'entry-invalid',
  'log-damaged',
  'quarantined',
  'source-changed',
  'state-damaged',
  'target-changed',
  'target-invalid',
]

type Numbers = ReadonlyMap<StoreKind, number>

export class KillWorld {
  readonly counts = {
    kills: 0,
    writerKills: 0,
    promises: 0,
    clones: 0,
    promotions: 0,
    planned: 0,
    rejoins: 0,
  }
  readonly #root: string
  readonly #random: Random
  readonly #application: Application
  #servers: ServeProcess[] = []
  #primary = 'alpha'
  /** One more with each promotion: a promise of before is of another history. */
  #reign = 1
  /** What a standby was said to have, since the last promotion. */
  readonly #promises = new Map<string, Numbers>()
  readonly #background = new Set<Promise<void>>()
  readonly #found: unknown[] = []
  readonly #acts: string[] = []
  readonly #beganMs = Date.now()

  constructor(root: string, seed: number) {
    this.#root = root
    this.#random = new Random(seed)
    this.#application = new Application(this.#random, join(root, 'writers'))
  }

  async begin(): Promise<void> {
    const plan = (name: string, upstream?: string): ServerPlan => ({
      name,
      ...(upstream === undefined ? {} : { upstream }),
      stores,
      more: [
        `rejoin: ${this.#random.pick(['automatic', 'manual'])}`,
        // the host's application: whoever is in the file, until none of them is there any more
        `on-demote: for p in $(cat ${this.#root}/writers); do kill -9 $p 2>/dev/null; while kill -0 $p 2>/dev/null; do sleep 0.05; done; done; true`,
      ].join('\n'),
    })
    this.#servers = await configureSet(this.#root, [
      plan('alpha'),
      plan('beta', 'alpha'),
      plan('gamma', 'beta'),
      plan('delta', 'alpha'),
    ])
    await this.#startApplication()
    for (const server of this.#servers) await server.start()
    await this.#settle()
    const synchronised = () =>
      this.#servers.flatMap(server => server.messages()).filter(({ code }) => code === 'store-synchronising')
    const before = synchronised().length
    await sleep(undisturbedMs)
    assert.deepEqual(synchronised().slice(before), [], 'nobody was disturbed, and stores are compared')
  }

  async step(): Promise<void> {
    const roll = this.#random.below(100)
    if (roll < 55) await this.#killSome()
    else if (roll < 62) this.#killWriter()
    else if (roll < 77) this.#inBackground(this.#promise())
    else if (roll < 87) await this.#clone()
    else if (roll < 93) await this.#promote(this.#random.below(2) === 0)
    else await this.#settle()
    await sleep(this.#random.below(1200))
    for (const server of this.#servers) server.assertRuns()
    this.#assertNoFault()
    if (this.#found.length > 0) throw this.#found[0]
    await this.#startAll()
    await this.#followPrimary()
  }

  /** The writers have ended, all are well: everybody has the same. */
  async converge(): Promise<void> {
    this.#say('converging')
    // one whose server is killed meanwhile is none
    while (this.counts.planned === 0) await this.#promote(true)
    while (this.counts.planned === this.counts.promotions) await this.#promote(false)
    await this.#settle()
    const committed = this.#committed()
    await this.#application.end()
    const primary = this.#server(this.#primary)
    await Promise.all(this.#background)
    for (const server of this.#direct()) {
      await primary.ask({ request: 'wait', peer: server.name }, settleMsMax)
      this.counts.promises++
    }
    await this.#settle()
    for (const server of this.#servers) assert.equal((await server.end('SIGTERM'))?.exit, 0)
    this.#assertNoFault()
    for (const kind of storeKinds) {
      const live = primary.path(kind.plan.name)
      kind.judge(live, committed.get(kind) ?? 0)
      for (const server of this.#servers)
        if (server !== primary && server.plan.stores.includes(kind.plan))
          kind.assertEqual(live, server.path(kind.plan.name))
    }
  }

  async end(): Promise<void> {
    if (process.env.HOTSPARE_KILL_TRACE === '1') process.stderr.write(`${this.#told()}\n`)
    await this.#application.end()
    // what ended by itself has been said
    await Promise.allSettled(this.#servers.map(server => server.end('SIGKILL')))
    await Promise.all(this.#background)
  }

  /** How often each code was said. */
  said(): Record<string, number> {
    const counts: Record<string, number> = {}
    for (const server of this.#servers) {
      for (const { level, code } of server.messages())
        if (level !== 'info') counts[`${level} ${code}`] = (counts[`${level} ${code}`] ?? 0) + 1
    }
    return counts
  }

  describe(): string {
    return [
      ...this.#acts.slice(-40),
      JSON.stringify(this.counts),
      JSON.stringify(this.said()),
      ...this.#servers.map(server => server.tail()),
    ].join('\n')
  }

  /** All that was done and all that was said, by time. */
  #told(): string {
    const said = this.#servers.flatMap(server => server.tail(10_000).split('\n'))
    const acts = this.#acts.map(act => `  TEST ${act.trim().replace(/^\S+ /, '')}`)
    const at = (line: string) => line.trim().split(' ')[1] ?? ''
    return [...said, ...acts].sort((a, b) => (at(a) < at(b) ? -1 : 1)).join('\n')
  }

  #say(text: string): void {
    const line = `${((Date.now() - this.#beganMs) / 1000).toFixed(1).padStart(7)} ${new Date().toISOString()} ${text}`
    this.#acts.push(line)
    if (process.env.HOTSPARE_KILL_TRACE === '1') process.stderr.write(`${line}\n`)
  }

  #server(name: string): ServeProcess {
    const server = this.#servers.find(one => one.name === name)
    assert.ok(server)
    return server
  }

  /** Those that take their log from the primary and may be promoted. */
  #direct(): ServeProcess[] {
    return this.#servers.filter(({ name }) => name !== this.#primary && name !== cascaded)
  }

  #committed(): Numbers {
    return new Map(storeKinds.map(kind => [kind, this.#application.committed(kind)]))
  }

  async #startApplication(): Promise<void> {
    const primary = this.#server(this.#primary)
    this.#say(`the application runs on ${primary.name}`)
    await this.#application.start(kind => primary.path(kind.plan.name))
  }

  #inBackground(work: Promise<void>): void {
    const watched = work
      .catch(error => void this.#found.push(error))
      .finally(() => this.#background.delete(watched))
    this.#background.add(watched)
  }

  async #killSome(): Promise<void> {
    const killed = this.#servers.filter(() => this.#random.below(4) === 0)
    if (killed.length === 0) killed.push(this.#random.pick(this.#servers))
    this.#say(`${killed.map(({ name }) => name).join(', ')} are killed`)
    this.counts.kills += killed.length
    await Promise.all(killed.map(server => server.end('SIGKILL')))
    // writers go on, and standbys are without their upstream for a while
    await sleep(this.#random.below(2500))
  }

  #killWriter(): void {
    const kind = this.#random.pick(storeKinds)
    this.#say(`the writer of ${kind.plan.name} is killed`)
    this.counts.writerKills++
    this.#application.kill(kind)
  }

  async #startAll(): Promise<void> {
    await Promise.all(this.#servers.filter(server => !server.runs).map(server => server.start()))
  }

  /** Undefined: it was killed meanwhile, or refused. */
  async #quietly<Value>(what: string, work: Promise<Value>): Promise<Value | undefined> {
    try {
      return await work
    } catch (error) {
      this.#say(`${what}: ${error instanceof Error ? error.message : error}`)
      return undefined
    }
  }

  async #promise(): Promise<void> {
    const server = this.#random.pick(this.#direct())
    const committed = this.#committed()
    const reign = this.#reign
    const what = `wait for ${server.name}`
    const primary = this.#server(this.#primary)
    const number = await this.#quietly(
      what,
      primary.ask<number>({ request: 'wait', peer: server.name }, 20_000),
    )
    if (number === undefined || reign !== this.#reign) return
    this.counts.promises++
    this.#say(`${server.name} has all up to ${number}`)
    const before = this.#promises.get(server.name)
    if (before === undefined || [...committed].every(([kind, value]) => value >= (before.get(kind) ?? 0)))
      this.#promises.set(server.name, committed)
  }

  /** Of a copy that is followed, by a process of its own. */
  async #clone(): Promise<void> {
    const server = this.#random.pick(this.#servers.filter(({ name }) => name !== this.#primary))
    const kind = this.#random.pick(storeKinds.filter(({ plan }) => server.plan.stores.includes(plan)))
    const target = join(this.#root, `clone-${this.counts.clones++}`)
    const { status, stderr } = spawnSync(
      process.execPath,
      [main, 'clone', server.path(kind.plan.name), target],
      {
        encoding: 'utf8',
      },
    )
    // where a copy is compared anew there may be none that is consistent yet
    if (status === 0) kind.judge(target, 0)
    else assert.match(stderr, /\((target-incomplete|target-missing|target-busy)\)/)
    this.#say(`clone of ${kind.plan.name} at ${server.name}: ${status} ${stderr.trim()}`)
    await fs.rm(target, { recursive: true, force: true })
  }

  /** The primary's host dies with its application, or hands over. Whatever happens meanwhile, one is the primary then. */
  async #promote(planned: boolean): Promise<void> {
    await this.#settle()
    const next = this.#random.pick(this.#direct())
    const old = this.#server(this.#primary)
    this.#say(`${next.name} is promoted in the place of ${old.name}${planned ? ', as planned' : ''}`)
    this.#application.retire()
    if (!planned) {
      this.counts.kills++
      const [, ended] = await Promise.all([this.#application.end(), old.end('SIGKILL')])
      assert.ok(ended)
    }
    const promises = this.#promises.get(next.name) ?? new Map()
    const disturbed = this.#random.below(3) === 0 ? this.#random.pick([next, old]) : undefined
    const report = this.#quietly(
      `promote ${next.name}`,
      next.ask<PromotionReport>({ request: 'promote', planned, dryRun: false, force }, 60_000),
    )
    if (disturbed?.runs) {
      await sleep(this.#random.below(1500))
      this.#say(`${disturbed.name} is killed meanwhile`)
      this.counts.kills++
      await disturbed.end('SIGKILL')
    }
    const promoted = await report
    await this.#application.end()
    await this.#startAll()
    const primary = await this.#primaryAfter(next)
    this.#say(`${primary.name} is the primary`)
    if (promoted !== undefined) {
      assert.ok(
        promoted.stores.every(({ store, valid }) => valid || store === tree.plan.name),
        JSON.stringify(promoted),
      )
      if (planned) assert.deepEqual(promoted.lost, { kind: 'nothing' })
    }
    if (primary === next) {
      this.counts.promotions++
      if (planned) this.counts.planned++
      this.#reign++
      this.#promises.clear()
      this.#primary = next.name
    }
    const committed = this.#committed()
    for (const kind of storeKinds) {
      const wanted = primary === old || (planned && promoted !== undefined) ? committed : promises
      kind.judge(primary.path(kind.plan.name), wanted.get(kind) ?? 0)
    }
    await this.#startApplication()
  }

  /** Of the two that were there, or will be when it is asked for again. */
  async #primaryAfter(next: ServeProcess): Promise<ServeProcess> {
    const endMs = Date.now() + settleMsMax
    for (let tries = 0; Date.now() < endMs; tries++) {
      const primaries: { server: ServeProcess; epoch: Epoch }[] = []
      for (const server of this.#servers) {
        const status = await this.#quietly(`status of ${server.name}`, server.status())
        if (status?.role === 'primary' && status.fencedBy === undefined)
          primaries.push({ server, epoch: status.epoch })
      }
      const newest = primaries.sort((a, b) => compareEpochs(b.epoch, a.epoch))[0]?.server
      // an old one that has not met the newer epoch yet is no primary any more; and it may meet it soon
      if (newest !== undefined && (newest === next || tries > 20)) return newest
      if (newest === undefined)
        await this.#quietly(
          `promote ${next.name} again`,
          next.ask({ request: 'promote', planned: false, dryRun: false, force }, 60_000),
        )
      await sleep(200)
    }
    assert.fail('nobody is the primary')
  }

  /** Those beside the primary take their log from it. */
  async #followPrimary(): Promise<void> {
    for (const server of this.#direct()) {
      const status = await this.#quietly(`status of ${server.name}`, server.status())
      if (status === undefined || (status.role === 'standby' && status.upstream === this.#primary)) continue
      const what = `${server.name} rejoins ${this.#primary}`
      const done = await this.#quietly(
        what,
        server.ask({ request: 'rejoin', upstream: this.#primary }, 20_000),
      )
      if (done === undefined) continue
      this.counts.rejoins++
      this.#say(what)
    }
  }

  /** Until all are connected, and have a copy of each store that goes on. */
  async #settle(): Promise<void> {
    const endMs = Date.now() + settleMsMax
    await this.#startAll()
    for (;;) {
      await this.#followPrimary()
      const lacks = await this.#lacks()
      if (lacks.length === 0) return this.#say('all is well')
      for (const server of this.#servers) server.assertRuns()
      this.#assertNoFault()
      assert.ok(Date.now() < endMs, `it never gets well: ${lacks.join('; ')}`)
      await sleep(200)
    }
  }

  async #lacks(): Promise<string[]> {
    const found: string[] = []
    const statuses = new Map<string, ServerStatus>()
    for (const server of this.#servers) {
      const status = await this.#quietly(`status of ${server.name}`, server.status())
      if (status === undefined) found.push(`${server.name} does not answer`)
      else statuses.set(server.name, status)
    }
    for (const { name, role, upstream, stores, log } of statuses.values()) {
      if (name === this.#primary) continue
      const above = statuses.get(upstream ?? '')
      const link = above?.links.find(({ peer }) => peer === name)
      if (role !== 'standby') found.push(`${name} is a ${role}`)
      for (const one of stores)
        if (!isWell(one))
          found.push(`${one.store} at ${name} is ${one.state} at ${one.number}: ${one.message}`)
      if (this.#application.runs) continue
      if (above === undefined || log.durable < above.log.durable || (link?.applied ?? 0) < above.log.durable)
        found.push(`${name} has ${log.durable}, applied ${link?.applied}, of ${above?.log.durable}`)
    }
    return found
  }

  #assertNoFault(): void {
    for (const server of this.#servers) {
      for (const { code, message } of server.messages())
        assert.ok(!faults.includes(String(code)), `${server.name}: ${message} (${code})`)
    }
  }
}

/**
 * Links over networks that are bad: a relay that delays, stalls and breaks (any machine), and network namespaces whose
 * wire is unplugged, or does to packets what wires do at their worst (root).
 */
import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { connect, createServer, type Socket } from 'node:net'
import { createInterface } from 'node:readline'
import { type TestContext, test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { Random } from '../src/os/testing/random.ts'
import { seed } from '../src/os/testing/seed.ts'
import { layBadWire, layCable, skipWires } from './link/wires.ts'

const peer = fileURLToPath(new URL('../src/link/testing/network-peer.ts', import.meta.url))
const messages = 1000

interface Peer {
  readonly process: ChildProcess
  readonly lines: string[]
  line(start: string): Promise<string>
}

function start(t: TestContext, before: readonly string[], role: string, address: string): Peer {
  const [program = '', ...given] = [...before, process.execPath, peer, role, address, String(messages)]
  const child = spawn(program, given, { stdio: ['ignore', 'pipe', 'inherit'] })
  t.after(() => child.kill('SIGKILL'))
  const lines: string[] = []
  const waiting = new Set<() => void>()
  const changed = () => {
    for (const wake of waiting) wake()
    waiting.clear()
  }
  createInterface({ input: child.stdout }).on('line', line => {
    lines.push(line)
    changed()
  })
  child.once('close', changed)
  return {
    process: child,
    lines,
    async line(wanted) {
      for (;;) {
        const found = lines.find(line => line.startsWith(wanted))
        if (found !== undefined) return found
        assert.equal(child.exitCode, null, `it ended without '${wanted}': ${lines.slice(-3).join('; ')}`)
        await new Promise<void>(resolve => waiting.add(resolve))
      }
    },
  }
}

/** What the caller printed last, when it has all: in how many sessions. */
async function judged(caller: Peer): Promise<number> {
  if (caller.process.exitCode === null) await once(caller.process, 'close')
  assert.equal(caller.process.exitCode, 0, caller.lines.slice(-3).join('; '))
  return Number(/^done (\d+)$/.exec(caller.lines.at(-1) ?? '')?.[1])
}

/** Between the two: bytes come later, by pieces, not at all for a while, or never again. */
class Relay {
  readonly #target: { host: string; port: number }
  readonly #sockets = new Set<Socket>()
  #stalledUntil = 0

  constructor(target: { host: string; port: number }) {
    this.#target = target
  }

  async listen(t: TestContext): Promise<string> {
    const server = createServer(socket => {
      const onward = connect(this.#target)
      this.#pass(socket, onward)
      this.#pass(onward, socket)
    })
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    t.after(() => {
      server.close()
      this.breakAll()
    })
    return `127.0.0.1:${(server.address() as { port: number }).port}`
  }

  async #pass(from: Socket, to: Socket): Promise<void> {
    this.#sockets.add(from)
    from.on('error', () => to.destroy())
    from.once('close', () => {
      this.#sockets.delete(from)
      to.destroy()
    })
    try {
      for await (const piece of from as AsyncIterable<Buffer>) {
        await delay(5)
        while (Date.now() < this.#stalledUntil) await delay(20)
        if (!to.destroyed) to.write(piece)
      }
    } catch {
      // it was broken on purpose
    }
  }

  /** Nothing moves, and nobody is told. */
  stall(ms: number): void {
    this.#stalledUntil = Date.now() + ms
  }

  breakAll(): void {
    for (const socket of this.#sockets) socket.resetAndDestroy()
  }
}

test('over a relay that delays, stalls and breaks, each message arrives once and in order', async t => {
  const random = new Random(seed)
  const called = start(t, [], 'called', '127.0.0.1:0')
  const [, host = '', port = ''] = /^listening (.+):(\d+)$/.exec(await called.line('listening')) ?? []
  const relay = new Relay({ host, port: Number(port) })
  const caller = start(t, [], 'caller', await relay.listen(t))
  const faults = (async () => {
    await caller.line('has 50')
    for (let i = 0; i < 100 && caller.process.exitCode === null; i++) {
      await delay(300 + random.below(700))
      if (random.below(3) === 0) relay.stall(500 + random.below(2000))
      else relay.breakAll()
    }
  })()
  const sessions = await judged(caller)
  await faults
  assert.ok(sessions > 3, `${sessions} sessions (HOTSPARE_SEED=${seed})`)
})

test('over a wire that is unplugged, shortly and for longer, each message arrives once and in order', {
  skip: skipWires,
}, async t => {
  const wire = layCable(t)
  const called = start(t, wire.called, 'called', wire.address)
  await called.line('listening')
  const caller = start(t, wire.caller, 'caller', wire.address)
  await caller.line('has 50')
  const faults = (async () => {
    const random = new Random(3)
    for (let i = 0; caller.process.exitCode === null; i++) {
      // short: packets are lost, and the kernel sends them again; long: a partition, which both sides notice
      const long = i % 6 === 2
      wire.plug(false)
      await delay(long ? 2500 : 20 + random.below(60))
      wire.plug(true)
      await delay(150 + random.below(250))
    }
  })()
  const sessions = await judged(caller)
  await faults
  assert.ok(sessions >= 2, `${sessions} sessions`)
})

test('over a wire that delays, loses, doubles, reorders and damages packets, each message arrives once and in order', {
  skip: skipWires,
  timeout: 150_000,
}, async t => {
  const seed = Number(process.env.SEED ?? 7)
  const random = new Random(seed)
  const wire = await layBadWire(t, seed)
  const bad = { delayMs: 6, jitterMs: 4, loss: 0.02, double: 0.02, overtake: 0.05, damage: 0.005 }
  await wire.shape(bad)
  const called = start(t, wire.called, 'called', wire.address)
  await called.line('listening')
  const caller = start(t, wire.caller, 'caller', wire.address)
  await caller.line('has 50')
  // a partition that both sides notice; nobody is told of it
  await wire.shape({ loss: 1 })
  await delay(4000)
  await wire.shape(bad)
  await caller.line('has 200')
  // far worse, so that TCP itself gives up waiting now and then, and much better
  const faults = (async () => {
    while (caller.process.exitCode === null) {
      await wire.shape({ ...bad, loss: 0.1 + random.below(50) / 100 })
      await delay(300 + random.below(1500))
      await wire.shape({ ...bad, loss: random.below(3) / 100 })
      await delay(1000 + random.below(2000))
    }
  })()
  const sessions = await judged(caller)
  await faults
  const counts = await wire.shape({})
  assert.ok(sessions >= 2, `${sessions} sessions (HOTSPARE_SEED=${seed})`)
  for (const [what, count] of Object.entries(counts)) assert.ok(count > 50, `${count} ${what} (seed ${seed})`)
})

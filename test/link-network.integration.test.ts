/**
 * Links over networks that are bad: a relay that delays, stalls and breaks (any machine), and network namespaces whose
 * wire is cut, loses and delays packets (root, iproute2; delay and loss by netem where the kernel has it).
 */
import assert from 'node:assert/strict'
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { connect, createServer, type Socket } from 'node:net'
import { createInterface } from 'node:readline'
import { type TestContext, test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { Random } from '../src/os/testing/random.ts'

const peer = fileURLToPath(new URL('../src/link/testing/network-peer.ts', import.meta.url))
const required = process.env.HOTSPARE_REQUIRE_ENGINES === '1'
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
  const seed = Number(process.env.SEED ?? 7)
  const random = new Random(seed)
  const called = start(t, [], 'called', '127.0.0.1:0')
  const [, host = '', port = ''] = /^listening (.+):(\d+)$/.exec(await called.line('listening')) ?? []
  const relay = new Relay({ host, port: Number(port) })
  const caller = start(t, [], 'caller', await relay.listen(t))
  const faults = (async () => {
    await caller.line('has 50')
    while (caller.process.exitCode === null) {
      await delay(300 + random.below(700))
      if (random.below(3) === 0) relay.stall(500 + random.below(2000))
      else relay.breakAll()
    }
  })()
  const sessions = await judged(caller)
  await faults
  assert.ok(sessions > 3, `${sessions} sessions (seed ${seed})`)
})

const canNamespace =
  process.getuid?.() === 0 &&
  spawnSync('ip', ['-V']).error === undefined &&
  spawnSync('ip', ['netns', 'list']).status === 0
const skip =
  canNamespace || required ? false : 'needs root and ip: apt-get install -y iproute2, and run as root'

function ip(...given: string[]): void {
  const { status, stderr } = spawnSync('ip', given, { encoding: 'utf8' })
  assert.equal(status, 0, `ip ${given.join(' ')}: ${stderr}`)
}

interface Wire {
  readonly called: readonly string[]
  readonly caller: readonly string[]
  readonly address: string
  /** The wire is unplugged, or plugged in again: packets are lost, and no end is told. */
  plug(plugged: boolean): void
  /** False: this kernel has no netem. */
  shape(netem: string): boolean
}

/** Two namespaces, and a wire between them. */
function lay(t: TestContext): Wire {
  const [a, b] = ['a', 'b'].map(name => `hs${process.pid}${name}`) as [string, string]
  for (const space of [a, b]) {
    ip('netns', 'add', space)
    t.after(() => spawnSync('ip', ['netns', 'del', space]))
  }
  ip('-n', a, 'link', 'add', 'wire', 'type', 'veth', 'peer', 'name', 'wire', 'netns', b)
  for (const [i, space] of [a, b].entries()) {
    ip('-n', space, 'addr', 'add', `10.93.0.${i + 1}/24`, 'dev', 'wire')
    ip('-n', space, 'link', 'set', 'wire', 'up')
  }
  return {
    called: ['ip', 'netns', 'exec', a],
    caller: ['ip', 'netns', 'exec', b],
    address: '10.93.0.1:2000',
    plug: plugged => ip('-n', a, 'link', 'set', 'wire', plugged ? 'up' : 'down'),
    shape: netem =>
      spawnSync('tc', ['-n', a, 'qdisc', 'replace', 'dev', 'wire', 'root', 'netem', ...netem.split(' ')])
        .status === 0,
  }
}

test('over a wire that is unplugged, shortly and for longer, each message arrives once and in order', {
  skip,
}, async t => {
  const wire = lay(t)
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

test('over a wire that delays, loses, doubles and reorders packets, each message arrives once and in order', {
  skip,
}, async t => {
  const wire = lay(t)
  if (!wire.shape('delay 20ms 10ms loss 3% duplicate 2% reorder 10%')) {
    t.skip('this kernel has no netem (module sch_netem): the relay and the unplugged wire stand for it')
    return
  }
  const called = start(t, wire.called, 'called', wire.address)
  await called.line('listening')
  const caller = start(t, wire.caller, 'caller', wire.address)
  await caller.line('has 50')
  wire.shape('delay 40ms 20ms loss 100%')
  await delay(2500)
  wire.shape('delay 20ms 10ms loss 2%')
  assert.ok((await judged(caller)) >= 2)
})

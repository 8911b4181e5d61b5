/** Two network namespaces and a wire between them: one that can be unplugged, or one that does what wires do at their worst. */
import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { createInterface } from 'node:readline'
import type { TestContext } from 'node:test'
import { fileURLToPath } from 'node:url'

const program = fileURLToPath(new URL('wire.py', import.meta.url))
const here =
  process.getuid?.() === 0 &&
  spawnSync('ip', ['netns', 'list']).status === 0 &&
  spawnSync('python3', ['-V']).status === 0 &&
  existsSync('/dev/net/tun')

/** Why a test that wants namespaces is skipped; where engines are required it is not. */
export const skipWires =
  here || process.env.HOTSPARE_REQUIRE_ENGINES === '1'
    ? false
    : 'needs root, /dev/net/tun, ip and python3: apt-get install -y iproute2 python3, and run as root'

export interface Wire {
  /** What a command begins with that is to run at the one end, and at the other. */
  readonly called: readonly string[]
  readonly caller: readonly string[]
  /** Of the one end. */
  readonly address: string
}

/** Of each packet: shares of 1, and milliseconds. What is left out is 0. */
export interface WireTerms {
  readonly delayMs?: number
  readonly jitterMs?: number
  readonly loss?: number
  readonly double?: number
  readonly overtake?: number
  readonly damage?: number
}

export interface WireCounts {
  readonly carried: number
  readonly lost: number
  readonly doubled: number
  readonly overtook: number
  readonly damaged: number
}

function ip(...given: string[]): void {
  const { status, stderr } = spawnSync('ip', given, { encoding: 'utf8' })
  assert.equal(status, 0, `ip ${given.join(' ')}: ${stderr}`)
}

/** Two namespaces, each with its end of the wire as the device `wire` that `layEnds` puts there. */
function lay(t: TestContext, layEnds: (spaces: readonly [string, string]) => void): Wire {
  const spaces: [string, string] = [`hs${process.pid}a`, `hs${process.pid}b`]
  for (const space of spaces) {
    ip('netns', 'add', space)
    t.after(() => spawnSync('ip', ['netns', 'del', space]))
  }
  layEnds(spaces)
  for (const [i, space] of spaces.entries()) {
    ip('-n', space, 'addr', 'add', `10.93.0.${i + 1}/24`, 'dev', 'wire')
    ip('-n', space, 'link', 'set', 'wire', 'up')
  }
  const [called, caller] = spaces.map(space => ['ip', 'netns', 'exec', space]) as [string[], string[]]
  return { called, caller, address: '10.93.0.1:2000' }
}

/** Unplugged, packets are lost, and the kernel at either end knows that the wire is gone. */
export function layCable(t: TestContext): Wire & { plug(plugged: boolean): void } {
  let end = ''
  const wire = lay(t, ([a, b]) => {
    end = a
    ip('-n', a, 'link', 'add', 'wire', 'type', 'veth', 'peer', 'name', 'wire', 'netns', b)
  })
  return { ...wire, plug: plugged => ip('-n', end, 'link', 'set', 'wire', plugged ? 'up' : 'down') }
}

/** The kernels at the ends know nothing of what befalls their packets, on any machine, whatever its kernel has built in. */
export async function layBadWire(
  t: TestContext,
  seed: number,
): Promise<Wire & { shape(terms: WireTerms): Promise<WireCounts> }> {
  const devices = [`hs${process.pid}x`, `hs${process.pid}y`] as const
  const carrier = spawn('python3', [program, String(seed), ...devices], {
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  t.after(async () => {
    if (carrier.exitCode !== null || carrier.signalCode !== null) return
    carrier.kill('SIGKILL')
    await once(carrier, 'close')
  })
  const lines = createInterface({ input: carrier.stdout })[Symbol.asyncIterator]()
  const line = async (): Promise<string> => {
    const { value, done } = await lines.next()
    assert.ok(!done, 'the wire ended')
    return value
  }
  assert.equal(await line(), 'ready')
  const wire = lay(t, spaces => {
    for (const [i, space] of spaces.entries())
      ip('link', 'set', devices[i] as string, 'netns', space, 'name', 'wire')
  })
  return {
    ...wire,
    async shape(terms) {
      carrier.stdin.write(`${JSON.stringify(terms)}\n`)
      return JSON.parse(await line())
    },
  }
}

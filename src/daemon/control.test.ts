import assert from 'node:assert/strict'
import * as fs from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, test } from 'node:test'
import { HotspareError } from '../os/errors.ts'
import { connectLocal, type LocalServer, listenLocal } from '../os/local-socket.ts'
import { connectControl } from './control-client.ts'
import { serveControl } from './control-server.ts'
import { type HeldPassReport, PassAbandoned, Request } from './pass-request.ts'
import { type PassClient, PassGate } from './passes.ts'

/** A gate of which the test tells what comes of what is asked. */
class ScriptedGate extends PassGate {
  readonly passes: Request<{ bytes: number; files: number; removed: number }>[] = []
  readonly held: { read: Request<HeldPassReport>; durable: Request<void>; kept?: boolean }[] = []
  ignored: readonly string[] = []
  ended = 0

  override connect(ignore: readonly string[] = []): PassClient {
    this.ignored = ignore
    return {
      pass: () => {
        const request = new Request<{ bytes: number; files: number; removed: number }>()
        this.passes.push(request)
        return request.outcome
      },
      hold: () => {
        const held: (typeof this.held)[number] = { read: new Request(), durable: new Request() }
        this.held.push(held)
        return {
          read: held.read.outcome,
          durable: held.durable.outcome,
          conclude: keep => {
            held.kept = keep
          },
        }
      },
      end: () => {
        this.ended++
      },
    }
  }
}

let root: string
let sidecar: string
let gate: ScriptedGate
let server: LocalServer
let client: PassClient

beforeEach(async () => {
  root = await fs.mkdtemp(join(tmpdir(), 'hotspare-control-'))
  // longer than the address of a socket can be
  sidecar = join(root, 'd'.repeat(100), 'copy.hotspare')
  await fs.mkdir(sidecar, { recursive: true, mode: 0o700 })
  gate = new ScriptedGate()
  server = await serveControl(sidecar, gate)
  const connected = await connectControl(sidecar, ['images/flag'])
  assert.ok(connected)
  client = connected
})
afterEach(async () => {
  client.end()
  await server.close()
  await fs.rm(root, { recursive: true })
})

async function until(holds: () => boolean): Promise<void> {
  while (!holds()) await new Promise(resolve => setTimeout(resolve, 1))
}

const report = { bytes: 7, files: 2, removed: 1 }
const heldReport = { ...report, changed: ['a\nb', 'ü'], changedCount: 30, consistent: true }

test('a mirror gets from a follower what it asks for, in the order of what happens', async () => {
  const pass = client.pass()
  await until(() => gate.passes.length === 1)
  assert.deepEqual(gate.ignored, ['images/flag'])
  gate.passes[0]?.resolve(report)
  assert.deepEqual(await pass, report)

  const held = client.hold()
  await until(() => gate.held.length === 1)
  gate.held[0]?.read.resolve(heldReport)
  assert.deepEqual(await held.read, heldReport)
  held.conclude(true)
  await until(() => gate.held[0]?.kept === true)
  gate.held[0]?.durable.resolve()
  await held.durable
})

test('a mirror that goes away gives up what it asked for', async () => {
  client.hold().durable.catch(() => undefined)
  await until(() => gate.held.length === 1)
  client.end()
  await until(() => gate.ended === 1)
})

test('a fault of the follower reaches the mirror with its code', async () => {
  const pass = client.pass()
  await until(() => gate.passes.length === 1)
  gate.passes[0]?.reject(new HotspareError('disk-full', 'no space'))
  await assert.rejects(pass, { code: 'disk-full', message: 'no space' })
})

test('a read that ends early is told at once, and why a moment later', async () => {
  const held = client.hold()
  await until(() => gate.held.length === 1)
  gate.held[0]?.read.reject(new PassAbandoned('ended early'))
  await assert.rejects(held.read, PassAbandoned)
  gate.held[0]?.durable.reject(new HotspareError('io-error', 'EIO'))
  await assert.rejects(held.durable, { code: 'io-error' })
})

test('a follower that ends fails what was asked of it', async () => {
  const pass = client.pass()
  await until(() => gate.passes.length === 1)
  const failing = assert.rejects(pass, { code: 'target-busy' })
  await server.close()
  await failing
  await assert.rejects(client.hold().read, { code: 'target-busy' })
})

test('only the owner may ask', async () => {
  assert.equal((await fs.stat(join(sidecar, 'control'))).mode & 0o777, 0o600)
})

test('nobody listens any more when the follower has ended, and what a killed one left is replaced', async () => {
  await server.close()
  assert.equal(await connectControl(sidecar, []), undefined)
  // what a killed follower leaves: a name with nobody behind it
  const stale = await listenLocal(sidecar, 'stale', () => {})
  await fs.link(join(sidecar, 'stale'), join(sidecar, 'control'))
  await stale.close()
  assert.equal(await connectControl(sidecar, []), undefined)
  server = await serveControl(sidecar, gate)
  const again = await connectControl(sidecar, [])
  assert.ok(again)
  again.end()
})

const nonsense: readonly (readonly [what: string, bytes: string])[] = [
  ['no JSON', 'hello\n'],
  ['an unknown request', '{"v":1,"request":"format"}\n'],
  ['a request of another version', '{"v":2,"request":"pass"}\n'],
]
for (const [what, bytes] of nonsense) {
  test(`${what} is answered with an error, and the connection ended`, async () => {
    const socket = await connectLocal(sidecar, 'control')
    assert.ok(socket)
    let text = ''
    socket.on('data', data => {
      text += data
    })
    socket.write(bytes)
    await new Promise(resolve => socket.once('close', resolve))
    assert.equal(JSON.parse(text).code, 'unsupported')
    assert.equal(gate.passes.length, 0)
  })
}

test('a line without end does not fill the memory', async () => {
  const socket = await connectLocal(sidecar, 'control')
  assert.ok(socket)
  socket.on('error', () => {})
  const closed = new Promise(resolve => socket.once('close', resolve))
  socket.write('x'.repeat(1024 * 1024))
  await closed
})

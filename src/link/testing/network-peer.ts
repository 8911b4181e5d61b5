/**
 * One of two servers on a bad network, as a process: the called one has numbered messages, the caller wants each of them
 * once and in order, and says after each break what it has.
 *
 *     network-peer.ts called ADDRESS COUNT      prints `listening ADDRESS`
 *     network-peer.ts caller ADDRESS COUNT      prints `has N` as it goes, and `done SESSIONS`; ends with status 0
 */
import { systemClock } from '../../os/clock.ts'
import { systemRandom } from '../../os/random.ts'
import { TcpTransport } from '../../os/tcp-transport.ts'
import { Answerer } from '../answerer.ts'
import { Caller } from '../caller.ts'
import { makeCertificate } from '../certificate.ts'
import type { Session } from '../session.ts'
import { TestTrust, testHello } from './session-pair.ts'

const [, , role = '', address = '', countText = ''] = process.argv
const count = Number(countText)
const server = role === 'called' ? 'alpha' : 'beta'
const transport = new TcpTransport(makeCertificate(server))
const trust = new TestTrust()
/** So short that a test sees many breaks in little time. */
const limits = { heartbeatMs: 300, silenceMs: 1200, writeMs: 1200, handshakeMs: 3000, closeMs: 200 }
const terms = () => ({ hello: testHello(server), trust, limits })
const common = { address, transport, clock: systemClock, random: systemRandom, terms }

function payload(id: number): Buffer {
  return Buffer.alloc(20_000, id % 251)
}

async function serve(session: Session): Promise<void> {
  for await (const asked of session.channel('control').messages()) {
    if (asked.type !== 'sync-durable') throw new Error(asked.type)
    for (let id = asked.id; id < count; id++) {
      await session.channel('log').send({ type: 'probe', id, payload: payload(id) })
      await systemClock.sleep(3)
    }
  }
}

let has = 0
let sessions = 0

async function take(session: Session): Promise<void> {
  sessions++
  await session.channel('control').send({ type: 'sync-durable', id: has })
  for await (const message of session.channel('log').messages()) {
    if (message.type !== 'probe' || message.id !== has || !message.payload.equals(payload(has))) {
      process.stdout.write(`WRONG after ${has}: ${JSON.stringify(message).slice(0, 200)}\n`)
      process.exit(3)
    }
    has++
    if (has % 50 === 0) process.stdout.write(`has ${has}\n`)
    if (has === count) {
      process.stdout.write(`done ${sessions}\n`)
      process.exit(0)
    }
  }
}

/** A break is what this is about. */
function broken(error: unknown): void {
  process.stderr.write(`${server}: ${error instanceof Error ? error.message : error}\n`)
}

if (role === 'called') {
  const answerer = await Answerer.open({
    ...common,
    onSession: session => void serve(session).catch(broken),
    onRefused: broken,
  })
  process.stdout.write(`listening ${answerer.address}\n`)
} else {
  const caller: Caller = new Caller({
    ...common,
    peer: 'alpha',
    onSession(session) {
      // it is of use, so the next call comes soon
      caller.tell('subscribed')
      return take(session).catch(broken)
    },
    onLife() {},
  })
}

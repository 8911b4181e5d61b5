/**
 * What if all but one machine had been lost? Its disk, as a power failure would have left it, stands in a world of its own,
 * where nobody answers, and the server on it is promoted. The machine itself goes on, and knows nothing of it.
 */
import assert from 'node:assert/strict'
import { HotspareError } from '../../src/os/errors.ts'
import type { MemoryDisk } from '../../src/os/testing/memory-disk.ts'
import type { Random } from '../../src/os/testing/random.ts'
import type { PromotionReport, ServerSettings } from '../../src/server/server.ts'
import type { Epoch } from '../../src/stream/epoch.ts'
import { Machine } from './machine.ts'
import { faultText, journalOn, storeNames } from './servers.ts'
import { VirtualNetwork } from './virtual-network.ts'
import { VirtualTime } from './virtual-time.ts'

/** What the one that was left alone has, as a primary. */
export interface Left {
  /** In which it stood before. */
  readonly epoch: Epoch
  readonly journals: ReadonlyMap<string, Buffer>
}

const startMsMax = 60_000
const promoteMsMax = 300_000
/** It has no copy that could be promoted, and says so. */
const refusals = ['target-incomplete', 'target-missing']

/** Undefined: it is a primary, or has no copies that may be promoted. */
export async function leftAlone(
  settings: ServerSettings,
  disk: MemoryDisk,
  nowMs: number,
  random: Random,
): Promise<Left | undefined> {
  const { name } = settings
  const time = new VirtualTime(nowMs)
  const alone = new Machine(settings, time, new VirtualNetwork(time, random), random, {
    hook: async () => {},
    onMessage: () => {},
  })
  alone.disk = disk
  alone.start()
  try {
    await time.run(() => alone.server !== undefined, startMsMax)
    const { server } = alone
    assert.ok(server, `${name} does not start after a crash: ${faultText(alone.lastFault)}`)
    const { role, epoch } = server.status()
    if (role === 'primary') return undefined
    let report: PromotionReport | undefined
    let fault: unknown
    const promoted = server
      .promote({ planned: false, dryRun: false, signal: new AbortController().signal })
      .then(
        value => {
          report = value
        },
        error => {
          fault = error
        },
      )
    let isOver = false
    promoted.then(() => {
      isOver = true
    })
    assert.ok(await time.run(() => isOver, promoteMsMax), `${name}, left alone, is never promoted`)
    if (fault instanceof HotspareError && refusals.includes(fault.code)) return undefined
    assert.ok(report, `${name}, left alone, is not promoted: ${faultText(fault)}`)
    return { epoch, journals: new Map(storeNames.map(store => [store, journalOn(alone.disk, store)])) }
  } finally {
    alone.crash()
  }
}

/** Sends bytes through the link that the peer writes to its disk: how long one goes to and fro, and how much a second. */
import type { Clock } from '../../os/clock.ts'
import type { Random } from '../../os/random.ts'
import type { Control } from '../control.ts'
import type { ProbeReport } from '../server.ts'

const pieceBytesMax = 512 * 1024

export async function probe(
  { clock, random }: { readonly clock: Clock; readonly random: Random },
  control: Control,
  bytes: number,
  signal: AbortSignal,
): Promise<ProbeReport> {
  let id = 0
  const send = async (count: number) => {
    const beganMs = clock.nowMs()
    const message = { type: 'probe', id: ++id, payload: random.bytes(count) } as const
    const { durableMs } = await control.ask(message, ['probed'], signal)
    return { durableMs, ms: clock.nowMs() - beganMs }
  }
  const small = await send(1)
  let totalMs = 0
  for (let left = bytes; left > 0; left -= pieceBytesMax)
    totalMs += (await send(Math.min(left, pieceBytesMax))).ms
  return {
    peer: control.session.peer.server,
    roundTripMs: small.ms,
    durableMs: small.durableMs,
    bytes,
    bytesPerSecond: totalMs === 0 ? 0 : Math.round((bytes * 1000) / totalMs),
  }
}

/** Who makes a mirror's passes: the follower of the target when one runs, else a follower in this process. */
import type { Machine } from '../drivers/driver.ts'
import { HotspareError } from '../os/errors.ts'
import { isFollowed, sidecarPath } from '../replica/sidecar.ts'
import { connectControl } from './control-client.ts'
import type { FollowEvent } from './events.ts'
import { followFor } from './follow.ts'
import type { FollowPlace } from './locate.ts'
import { type PassClient, PassGate } from './passes.ts'

export interface MirrorPasses {
  readonly client: PassClient
  /** A follower that runs makes them. */
  readonly followed: boolean
  /** Ends what was asked for, and the follower in this process. */
  close(): Promise<void>
}

export interface MirrorPassesOptions extends Machine {
  readonly place: FollowPlace
  /** As given. */
  readonly source: string
  readonly target: string
  readonly resync: boolean
  readonly noDelete: boolean
  /** Kept from the copy. */
  readonly ignore: readonly string[]
  readonly signal: AbortSignal
  onEvent(event: FollowEvent): void
}

/** A follower that is starting, or in a retry, opens its socket within this. */
const connectMsMax = 10_000
const connectRetryMs = 50

export async function openMirrorPasses(options: MirrorPassesOptions): Promise<MirrorPasses> {
  const { storage, clock, place, signal } = options
  const { target } = place
  const giveUpMs = clock.nowMs() + connectMsMax
  while (await isFollowed(storage, target)) {
    refuseForFollower(options)
    const client = await connectControl(sidecarPath(target), options.ignore)
    if (client !== undefined) return { client, followed: true, close: async () => client.end() }
    signal.throwIfAborted()
    if (clock.nowMs() >= giveUpMs) {
      throw new HotspareError(
        'target-busy',
        `Another process holds ${target}, and does not answer: another mirror, or a follower that waits to try again ('hotspare status' shows it).`,
      )
    }
    await clock.sleep(connectRetryMs, signal)
  }
  return followHere(options)
}

function refuseForFollower({ place, resync, noDelete }: MirrorPassesOptions): void {
  if (!resync && !noDelete) return
  throw new HotspareError(
    'target-busy',
    `A follower keeps ${place.target} up to date, and --resync and --no-delete are for it to be told. Stop it first.`,
  )
}

function followHere(options: MirrorPassesOptions): MirrorPasses {
  const { storage, clock, source, target, resync, noDelete, onEvent } = options
  const stop = new AbortController()
  const gate = new PassGate()
  const client = gate.connect(options.ignore)
  const following = followFor(
    {
      source,
      target,
      driver: 'directory',
      resync,
      noDelete,
      signal: stop.signal,
      onEvent,
      machine: { storage, clock },
    },
    gate,
  ).catch(() => {
    // told by the gate to whoever waits for a pass
  })
  return {
    client,
    followed: false,
    async close() {
      client.end()
      stop.abort()
      await following
    },
  }
}

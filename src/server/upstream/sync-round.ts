/**
 * One movement of a store, as its source has it now, into the copies of one or several downstreams, beside the log.
 *
 * The source acknowledges nothing here: what it may release it learns when the log has gone on from there.
 */
import type { Clock } from '../../os/clock.ts'
import { HotspareError } from '../../os/errors.ts'
import type { Entry, Position, StoreName } from '../../stream/entry.ts'
import { pump } from '../../stream/pump.ts'
import type { Sink } from '../../stream/sink.ts'
import type { Source } from '../../stream/source.ts'
import { withinTime } from '../within-time.ts'
import { abortable } from './abortable.ts'
import { RemoteSink } from './remote-sink.ts'
import type { RemoteStore } from './remote-store.ts'
import { TeeSink } from './tee-sink.ts'

const syncBytesMax = 16 * 1024 * 1024
const syncDelayMsMax = 1000
/** A copy that takes part is made ready by then: the others wait for it. */
const readyMsMax = 30_000

export interface SyncRoundOptions<Peer> {
  readonly store: StoreName
  readonly source: Source
  readonly peers: readonly { readonly peer: Peer; readonly remote: RemoteStore }[]
  readonly clock: Clock
  readonly signal: AbortSignal
  /** A source that always has more is left at its first consistent commit after so long. */
  readonly msMax: number
  /**
   * The source compares, whatever positions the copies have: `told`, since it is not told them; `always`, by itself.
   */
  readonly compares?: 'told' | 'always'
  onFault(peer: Peer, error: unknown): void
}

export interface SyncRoundResult<Peer> {
  /** Where all of `peers` stand, durably. */
  readonly position: Position
  readonly peers: readonly Peer[]
}

/** Rejects with the source's fault, or with that of the last peer that was left. */
export async function syncRound<Peer>(options: SyncRoundOptions<Peer>): Promise<SyncRoundResult<Peer>> {
  const { store, source, clock, signal, onFault } = options
  const { sinks, peerOf } = await beginAll(options)
  const position = options.compares === 'told' ? undefined : await commonPosition(sinks)
  const tee = new TeeSink({
    store,
    sinks,
    position,
    compares: position === undefined || options.compares === 'always',
    onFault: (sink, error) => onFault(peerOf(sink), error),
  })
  const enough = new AbortController()
  const endMs = clock.nowMs() + options.msMax
  try {
    await pump({
      store,
      source: unacknowledged(source),
      sink: watched(tee, entry => {
        if (entry.type === 'commit' && entry.consistent && clock.nowMs() >= endMs) enough.abort()
      }),
      clock,
      signal: AbortSignal.any([signal, enough.signal]),
      once: true,
      syncBytesMax,
      syncDelayMsMax,
    })
    signal.throwIfAborted()
    const settled = await tee.settle()
    const reached = await tee.position()
    if (reached === undefined)
      throw new HotspareError(
        'source-invalid',
        `The source of store '${store}' has no whole transaction yet.`,
      )
    return { position: reached, peers: settled.map(peerOf) }
  } finally {
    await tee.close()
  }
}

async function beginAll<Peer>({ peers, store, clock, signal, onFault }: SyncRoundOptions<Peer>) {
  const of = new Map<RemoteSink, Peer>()
  let fault: unknown
  await Promise.all(
    peers.map(async ({ peer, remote }) => {
      try {
        const what = `A downstream did not make its copy of '${store}' ready`
        of.set(
          await withinTime(clock, readyMsMax, signal, what, left =>
            abortable(RemoteSink.begin(remote), left),
          ),
          peer,
        )
      } catch (error) {
        fault ??= error
        onFault(peer, error)
      }
    }),
  )
  if (of.size === 0) throw fault
  return { sinks: [...of.keys()], peerOf: (sink: RemoteSink) => of.get(sink) as Peer }
}

async function commonPosition(sinks: readonly RemoteSink[]): Promise<Position | undefined> {
  const positions = new Set(await Promise.all(sinks.map(sink => sink.position())))
  return positions.size === 1 ? [...positions][0] : undefined
}

function unacknowledged(source: Source): Source {
  return {
    read: (from, options) => source.read(from, options),
    wait: signal => source.wait(signal),
    acknowledge: async () => {},
    close: async () => {},
  }
}

function watched(sink: Sink, onWritten: (entry: Entry) => void): Sink {
  return {
    position: store => sink.position(store),
    async write(entry) {
      await sink.write(entry)
      onWritten(entry)
    },
    sync: () => sink.sync(),
    inventory: async (store, purpose) => sink.inventory?.(store, purpose),
    close: () => sink.close(),
  }
}

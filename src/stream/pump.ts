/**
 * The one loop that moves entries from a source to a sink.
 *
 * Order, which is the law: write, sync, acknowledge. A crash anywhere leaves the sink with a prefix; the next run
 * starts from the sink's own position, so the worst that can happen is that entries are sent again.
 */
import type { Clock } from '../os/clock.ts'
import { type Commit, changeBytes, type StoreName } from './entry.ts'
import type { InventoryPurpose, Sink } from './sink.ts'
import type { Source } from './source.ts'

/** A source that never has to wait must not keep the process's other work, as its links, from going on. */
const turnEveryMs = 0.5

export interface PumpProgress {
  /** Bytes and transactions taken from the source since the pump started. */
  readonly bytes: number
  readonly transactions: number
}

export interface PumpOptions {
  readonly store: StoreName
  readonly source: Source
  readonly sink: Sink
  readonly clock: Clock
  readonly signal: AbortSignal
  /** End when caught up for the first time. */
  readonly once?: boolean
  /** Group commit: sync at the latest after so many bytes or milliseconds. */
  readonly syncBytesMax?: number
  readonly syncDelayMsMax?: number
  /** While it gives true, writers wait for the read: what was read is not synced before its end. */
  holding?(): boolean
  /** True while somebody waits for what is committed. */
  isAwaited?(): boolean
  /** True when somebody waits for this commit: it is synced at once. */
  wanted?(commit: Commit): boolean
  /** Called when `commit` is durable at the sink. */
  onDurable?(commit: Commit, progress: PumpProgress): void
  /** Called as bytes move, for a display; often. */
  onProgress?(progress: PumpProgress): void
  /** Called each time the source has been read to its end and all of it is durable. */
  onCaughtUp?(progress: PumpProgress): void
}

/** Runs until the signal aborts (then after the current commit), or until caught up with `once`. */
export async function pump(options: PumpOptions): Promise<PumpProgress> {
  const { store, source, sink, clock, signal } = options
  const syncBytesMax = options.syncBytesMax ?? 8 * 1024 * 1024
  const syncDelayMsMax = options.syncDelayMsMax ?? 20
  let bytes = 0
  let transactions = 0
  let unsynced: Commit | undefined
  let unsyncedBytes = 0
  let unsyncedSinceMs = 0
  let turnMs = clock.nowMs()

  async function syncAndAcknowledge(): Promise<void> {
    if (unsynced === undefined) return
    const commit = unsynced
    await sink.sync()
    unsynced = undefined
    unsyncedBytes = 0
    await source.acknowledge(commit.position)
    options.onDurable?.(commit, { bytes, transactions })
  }

  while (!signal.aborted) {
    const from = await sink.position(store)
    const inventory = async (purpose?: InventoryPurpose) => sink.inventory?.(store, purpose)
    const isAwaited = () => options.isAwaited?.() ?? false
    for await (const entry of source.read(from, { signal, inventory, isAwaited })) {
      const moved = entry.type === 'commit' ? 0 : changeBytes(entry)
      await sink.write(entry)
      if (entry.type === 'commit') {
        transactions++
        if (unsynced === undefined) unsyncedSinceMs = clock.nowMs()
        unsynced = entry
        if (signal.aborted) break
      } else {
        bytes += moved
        unsyncedBytes += moved
        options.onProgress?.({ bytes, transactions })
      }
      if (options.holding?.()) continue
      const nowMs = clock.nowMs()
      const due =
        unsyncedBytes >= syncBytesMax ||
        nowMs - unsyncedSinceMs >= syncDelayMsMax ||
        (entry.type === 'commit' && options.wanted?.(entry) === true)
      if (unsynced === entry && due) await syncAndAcknowledge()
      if (nowMs - turnMs < turnEveryMs) continue
      await clock.turn()
      turnMs = clock.nowMs()
    }
    await syncAndAcknowledge()
    if (signal.aborted) break
    options.onCaughtUp?.({ bytes, transactions })
    if (options.once) break
    await source.wait(signal)
  }
  return { bytes, transactions }
}

/**
 * A server goes over to another upstream: an old primary to the new one, or a standby whose upstream was left behind.
 *
 *     met      the new upstream is of a newer epoch (or, for a standby, not of an older one)
 *     quiet    of a primary: nobody writes to its stores, and all that they have is in its log
 *     cut      what its log has beyond the last transaction that both have is a file of its own, and no more in the log
 *     turned   role, upstream and epoch are durable: it follows, and its stores are made equal by comparing
 *
 * Invariant: nothing that was written here is lost: what the new upstream does not have is in the file before the store
 * is touched. Each step may be done again, so a crash anywhere is mended by a second call; a file that was written
 * before it keeps its name.
 *
 * The worst outcome: two files with the same transactions.
 */
import type { Clock } from '../os/clock.ts'
import { HotspareError } from '../os/errors.ts'
import type { StoreName } from '../stream/entry.ts'
import { compareEpochs, type Epoch, epochText } from '../stream/epoch.ts'
import { commonNumber, type LogView } from './common-number.ts'
import { newestEpoch, type Reign } from './fencing.ts'

export interface Aside {
  readonly path: string
  readonly fromNumber: number
  readonly transactions: number
}

/** A store of which it cannot be told what only this server has: it is kept as it was. */
export interface WholeAside {
  readonly store: StoreName
  /** A directory that holds it. */
  readonly path: string
}

export interface RejoinReport {
  readonly upstream: string
  /** What this server's log had beyond the promotion; undefined: nothing. */
  readonly aside?: Aside
  /** Undefined: none. */
  readonly wholes?: readonly WholeAside[]
}

/** What is durable of it: there from the first step to the last. */
export interface RejoinRecord {
  readonly upstream: string
  readonly aside?: Aside
  readonly wholes?: readonly WholeAside[]
}

/** The new upstream, connected. */
export interface MetUpstream {
  readonly epoch: Epoch
  readonly stream: string
  readonly log: LogView
}

/** What rejoining does to the server that it happens in. Each may be called again after a crash or a failure. */
export interface RejoinHost {
  readonly clock: Clock
  reign(): Reign
  record(): RejoinRecord | undefined
  /** Durable when it resolves. Undefined: there is none any more. */
  save(record: RejoinRecord | undefined): Promise<void>

  /** Resolves when the link to it stands. Throws `peer-unknown` and `peer-away`. */
  meet(upstream: string, signal: AbortSignal): Promise<MetUpstream>
  /**
   * Nothing is shipped or taken any more. Of a primary: throws `source-busy` when somebody writes to a store; what the
   * stores have beyond the log is in it, durably, and they are closed. Resolves with those of which that cannot be, which
   * were put aside.
   */
  quiet(signal: AbortSignal): Promise<readonly WholeAside[]>
  /** Undoes `quiet`. */
  resume(): Promise<void>

  readonly log: LogView & { readonly stream: string }
  /** A new name for the file of what is cut after this number. */
  asidePath(afterNumber: number): Promise<string>
  cutAfter(number: number, path: string): Promise<void>
  /** Role, upstream and epoch, at once and durably, and the record is gone; then it follows. */
  turn(upstream: string, epoch: Epoch): Promise<void>
}

export async function rejoin(host: RejoinHost, upstream: string, signal: AbortSignal): Promise<RejoinReport> {
  const met = await host.meet(upstream, signal)
  assertNewer(host.reign(), upstream, met.epoch)
  const before = host.record()
  try {
    if (host.record()?.upstream !== upstream) await host.save({ ...host.record(), upstream })
    const wholes = [...(host.record()?.wholes ?? []), ...(await host.quiet(signal))]
    if (wholes.length > 0) await host.save({ ...host.record(), upstream, wholes })
    const aside = await putAside(host, met)
    await host.turn(upstream, met.epoch)
    return {
      upstream,
      ...(aside === undefined ? {} : { aside }),
      ...(wholes.length === 0 ? {} : { wholes }),
    }
  } catch (error) {
    // whoever asked hears of it; what was wanted before goes on being wanted, and so does what cannot be taken back
    if (before === undefined && host.record() !== undefined) await host.save(undefined).catch(() => undefined)
    await host.resume()
    throw error
  }
}

async function putAside(host: RejoinHost, met: MetUpstream): Promise<Aside | undefined> {
  const { log } = host
  const common = met.stream === log.stream ? await commonNumber(log, met.log) : undefined
  // of a standby that shares nothing known with its upstream, the primary that wrote it has it
  if (common === undefined && host.reign().role === 'standby') return undefined
  const after = common ?? log.first - 1
  const transactions = log.next - 1 - after
  if (transactions <= 0) return host.record()?.aside
  const aside: Aside = { path: await host.asidePath(after), fromNumber: after + 1, transactions }
  await host.cutAfter(after, aside.path)
  const record = host.record()
  if (record !== undefined) await host.save({ ...record, aside })
  return aside
}

function assertNewer(own: Reign, upstream: string, epoch: Epoch): void {
  const order = compareEpochs(epoch, newestEpoch(own))
  if (order < 0) {
    throw new HotspareError(
      'epoch-old',
      `${upstream} stands at epoch ${epochText(epoch)}, which is older than ${epochText(newestEpoch(own))}: it has to rejoin, not this server.`,
    )
  }
  if (own.role === 'primary' && compareEpochs(epoch, own.epoch) === 0) {
    throw new HotspareError(
      'server-busy',
      `This server is the primary of epoch ${epochText(own.epoch)}, and ${upstream} is no newer one. Promote ${upstream} first.`,
    )
  }
}

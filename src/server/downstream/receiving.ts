/**
 * One session with the upstream: subscribes from where this server's log and copies stand, takes the log, acknowledges
 * what is durable, and takes the stores that are brought beside the log.
 *
 * Order, which is the law: a piece is in the log, the log is synced, then it is acknowledged. What a break leaves of a
 * transaction without its end is void, and comes again.
 *
 * An upstream of an older epoch than this server stands under is refused, and nothing that it sends is looked at.
 */
import type { LinkMessage } from '../../link/messages.ts'
import type { Channel } from '../../link/session.ts'
import { HotspareError } from '../../os/errors.ts'
import { compareEpochs, type Epoch, epochBeforeAll, epochText } from '../../stream/epoch.ts'
import type { LogPiece } from '../../stream/log-piece.ts'
import type { Control } from '../control.ts'
import { applySubscriber, type DownstreamOptions, type Taking, type TakingEnd } from './downstream.ts'
import type { StoreKeepers } from './store-keepers.ts'
import { StoreSyncs } from './store-syncs.ts'

type Of<T extends LinkMessage['type']> = Extract<LinkMessage, { readonly type: T }>

export interface ReceivingOptions extends DownstreamOptions {
  readonly control: Control
  readonly keepers: StoreKeepers
  onTransaction(number: number): void
  onMark(number: number, timeMs: number): void
}

/** The other side said no, or this one does. */
class Refusal extends Error {
  override readonly name = 'Refusal'
}

export class Receiving implements Taking {
  readonly #options: ReceivingOptions
  readonly #stop = new AbortController()
  readonly #syncs: StoreSyncs
  readonly #channel: Channel
  readonly over: Promise<TakingEnd>
  #subscribed = false
  /** What is to be done by the loops below; each is done as soon as it can be, once for all that asked. */
  #syncDue = false
  #ackDue = false
  #wake: () => void = () => {}
  #fault: unknown

  constructor(options: ReceivingOptions) {
    this.#options = options
    const { control, keepers } = options
    this.#channel = control.session.channel('log')
    this.#syncs = new StoreSyncs({
      session: control.session,
      keepers,
      signal: this.#stop.signal,
      tell: options.tell,
      invalidate: options.invalidate,
      onFault: error => this.#end(error),
    })
    this.over = this.#run()
  }

  get state(): Taking['state'] {
    if (!this.#subscribed) return 'subscribing'
    return this.#syncs.busy ? 'synchronising' : 'receiving'
  }

  async stop(): Promise<void> {
    this.#end(undefined)
    await this.over
  }

  /** Ends it so that it is made anew; stores that are just being brought come to their end first, they would begin anew. */
  renew(reason: string): void {
    const end = () => this.#end(new HotspareError('link-broken', reason))
    if (this.#syncs.busy) void this.#syncs.idle().then(end)
    else end()
  }

  /** The copies have come further: the upstream hears of it. */
  moved(): void {
    this.#ackDue = true
    this.#wake()
  }

  #end(error: unknown): void {
    if (this.#stop.signal.aborted) return
    this.#fault = error
    this.#stop.abort()
    this.#wake()
    const { control, log } = this.#options
    void control.session.close(error instanceof Error ? error.message : undefined)
    // what waits for space in the log waits no more; its faults are met below
    void log.abandon().catch(() => undefined)
  }

  async #run(): Promise<TakingEnd> {
    const { control, log } = this.#options
    void control.session.over.then(error => {
      this.#end(error ?? new HotspareError('link-broken', 'The upstream closed the connection.'))
    })
    let refused = false
    try {
      await this.#assertNotOlder(control.session.peer.epoch)
      await log.abandon()
      await log.sync()
      await this.#subscribe()
      const ended = (error: unknown) => this.#end(error)
      await Promise.all([
        this.#receive().catch(ended),
        this.#answer().catch(ended),
        this.#syncs.run().catch(ended),
      ])
    } catch (error) {
      refused = error instanceof Refusal
      this.#end(error instanceof Refusal ? error.cause : error)
    }
    await this.#settle()
    control.off('subscribed')
    control.off('refused')
    return { error: this.#fault, refused }
  }

  /** What came whole becomes durable, what did not is void. */
  async #settle(): Promise<void> {
    const { log, failed } = this.#options
    try {
      await log.abandon()
      await log.sync()
    } catch (error) {
      // a full disk passes, and nothing was acknowledged; a log that takes no work any more does not
      if (error instanceof HotspareError && error.code === 'log-closed') failed(error)
    }
  }

  async #subscribe(): Promise<void> {
    const { control, log, keepers } = this.#options
    const stores = await keepers.stands()
    const { next } = log
    const chain = await log.chainAfter(next - 1)
    if (chain === undefined) throw new Error(`the log does not know the chain of its own end, ${next - 1}`)
    const answer = await control.ask(
      { type: 'subscribe', next, chain, stores },
      ['subscribed', 'refused'],
      this.#stop.signal,
    )
    if (answer.type === 'refused') {
      throw new Refusal(answer.message, { cause: refusedAs(answer.code, answer.message) })
    }
    await this.#begin(answer, { next, chain })
    this.#subscribed = true
    this.moved()
  }

  async #begin(
    answer: Of<'subscribed'>,
    own: { readonly next: number; readonly chain: string },
  ): Promise<void> {
    const { log, keepers, state, learnt, invalidate } = this.#options
    // where its log stands may be older than where it stands itself, which was looked at: nobody wrote since
    if (compareEpochs(answer.epoch, state.value.epoch) > 0) await learnt(answer.epoch)
    if (answer.restart) await this.#restart(answer)
    else if (answer.next !== own.next || answer.chain !== own.chain || answer.stream !== log.stream) {
      throw new HotspareError(
        'log-gap',
        `The upstream goes on at transaction ${answer.next}, where this log is at ${own.next}, or with another log.`,
      )
    }
    keepers.describe(answer.stores)
    await keepers.toSync(answer.sync, answer.next, this.#stop.signal)
    if (answer.sync.length > 0) await invalidate(answer.sync)
    // nobody would answer
    for (const store of answer.sync) {
      if (!keepers.has(store)) this.#options.control.session.channel(`sync ${store}`).close()
    }
  }

  /** Order: the copies take what the log has, what they hold counts for nothing, then the log begins anew. */
  async #restart(answer: Of<'subscribed'>): Promise<void> {
    const { log, keepers, state, disconnect, tell } = this.#options
    const { next, chain, stream } = answer
    await keepers.takeRest(this.#stop.signal)
    tell(
      'info',
      'log-restarted',
      `The log begins anew at transaction ${next}: every store is compared with the upstream's.`,
    )
    await disconnect('the log begins anew')
    await keepers.putOutAll(this.#stop.signal)
    // what comes first may be older than the newest that the upstream has
    await log.restart({ next, chain, stream, epoch: epochBeforeAll })
    await log.subscribe(applySubscriber, next - 1)
    keepers.restarted(next)
    await state.update(value => ({ ...value, stream }))
  }

  async #receive(): Promise<void> {
    const { onMark } = this.#options
    for await (const message of this.#channel.messages()) {
      if (this.#stop.signal.aborted) return
      if (message.type === 'log') await this.#take(message.pieces)
      else if (message.type === 'mark') onMark(message.number, message.timeMs)
      else throw new HotspareError('entry-invalid', `'${message.type}' came where the log was to come.`)
    }
    this.#end(new HotspareError('link-broken', 'The upstream ended its log.'))
  }

  async #take(pieces: readonly LogPiece[]): Promise<void> {
    const { log, keepers, state, learnt, onTransaction } = this.#options
    for (const piece of pieces) {
      if (piece.type === 'begin') {
        if (compareEpochs(piece.epoch, state.value.epoch) > 0) await learnt(piece.epoch)
        keepers.seen(piece.store, piece.number)
      }
      // what came before is waited for elsewhere, and may be what makes room
      if (piece.type === 'entries' && log.bytes + piece.data.length > log.limits.bytesMax) this.#wake()
      await log.receive(piece)
      if (piece.type !== 'end') continue
      onTransaction(piece.number)
      this.#syncDue = true
    }
    this.#wake()
  }

  /** Syncs while something came, and acknowledges right after each sync; what comes meanwhile is in the next one. */
  async #answer(): Promise<void> {
    const { log, keepers } = this.#options
    const said = { received: -1, applied: -1 }
    while (!this.#stop.signal.aborted) {
      if (this.#syncDue) {
        this.#syncDue = false
        await log.sync()
        this.#ackDue = true
      }
      if (this.#ackDue) {
        this.#ackDue = false
        const received = log.durable
        const applied = Math.min(keepers.applied, received)
        if (received === said.received && applied === said.applied) continue
        Object.assign(said, { received, applied })
        await this.#channel.send({ type: 'acknowledge', received, applied, released: received })
      } else if (!this.#syncDue) {
        await new Promise<void>(resolve => {
          this.#wake = resolve
          if (this.#stop.signal.aborted) resolve()
        })
      }
    }
  }

  async #assertNotOlder(epoch: Epoch): Promise<void> {
    const own = this.#options.state.value.epoch
    if (compareEpochs(epoch, own) >= 0) return
    const { server } = this.#options.control.session.peer
    const message = `${server} stands at epoch ${epochText(epoch)}, which is older than ${epochText(own)}: nothing is taken from it.`
    throw new Refusal(message, { cause: new HotspareError('epoch-old', message) })
  }
}

/** A refusal's code comes from the peer: of what we do not know only the message counts. */
function refusedAs(code: string, message: string): HotspareError {
  const known = ['epoch-old', 'loop', 'link-refused', 'config-invalid', 'peer-unknown'] as const
  return new HotspareError(known.find(each => each === code) ?? 'link-refused', message)
}

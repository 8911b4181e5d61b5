/**
 * Listens on a session for stores that the upstream brings beside the log. What hinders one of them ends the session,
 * which is made anew without that store; it is asked for again when the fault may have passed.
 */
import type { LinkMessage, StoreDescription } from '../../link/messages.ts'
import type { Session } from '../../link/session.ts'
import { describeSystemError, HotspareError } from '../../os/errors.ts'
import { applyFault } from './apply-fault.ts'
import type { DownstreamOptions } from './downstream.ts'
import type { StoreKeeper } from './store-keeper.ts'
import type { StoreKeepers } from './store-keepers.ts'
import { receiveStore } from './syncing.ts'

export interface StoreSyncsOptions {
  readonly session: Session
  readonly keepers: StoreKeepers
  readonly signal: AbortSignal
  readonly tell: DownstreamOptions['tell']
  readonly invalidate: DownstreamOptions['invalidate']
  onFault(error: unknown): void
}

export class StoreSyncs {
  readonly #options: StoreSyncsOptions
  #count = 0
  #idle = Promise.withResolvers<void>()

  constructor(options: StoreSyncsOptions) {
    this.#options = options
  }

  /** One is under way. */
  get busy(): boolean {
    return this.#count > 0
  }

  /** Resolves when none is under way. */
  async idle(): Promise<void> {
    while (this.busy) await this.#idle.promise
  }

  /** Resolves when the session is over and nothing of it writes to a copy any more. */
  async run(): Promise<void> {
    await Promise.all(this.#options.keepers.all.map(keeper => this.#listen(keeper)))
  }

  async #listen(keeper: StoreKeeper): Promise<void> {
    const { session, signal, invalidate, onFault, tell } = this.#options
    const channel = session.channel(`sync ${keeper.store}`)
    const messages = channel.messages()[Symbol.asyncIterator]()
    try {
      for (;;) {
        const next = await messages.next()
        if (next.done === true || signal.aborted) return
        const description = begun(next.value)
        await keeper.takeRestSoon(signal)
        if (keeper.isBehind || !(await keeper.takesSync())) {
          await keeper.leaveLog(undefined, signal)
          // nor will those below, who take the same log
          await invalidate([keeper.store])
          tell(
            'warning',
            'store-out-of-step',
            `Store '${keeper.store}' was to be synchronised, and ${keeper.isBehind ? 'takes what the log has first' : 'rests'}: that waits.`,
          )
          channel.close()
          return
        }
        keeper.assertSame(description)
        this.#count++
        try {
          const upstream = session.peer.server
          await keeper.synchronise(signal, upstream, copy =>
            receiveStore(keeper.store, channel, messages, copy),
          )
          tell('info', 'store-synchronised', `Store '${keeper.store}' is as at ${upstream}.`)
        } finally {
          this.#count--
          this.#idle.resolve()
          this.#idle = Promise.withResolvers()
        }
      }
    } catch (thrown) {
      if (signal.aborted) return
      const error = describeSystemError(thrown, `Synchronising ${keeper.place.path}`)
      await this.#answer(keeper, error)
      onFault(error)
    }
  }

  async #answer(keeper: StoreKeeper, error: unknown): Promise<void> {
    const code = error instanceof HotspareError ? error.code : undefined
    switch (code) {
      // the session's own
      case 'link-broken':
        return
      // a comparison with what is really there may mend it
      case 'digest-mismatch':
      case 'target-changed':
      case 'target-invalid':
      case 'state-damaged':
      case 'diverged':
        await keeper.distrust()
        return keeper.retryLater(error)
      case 'log-removed':
      case 'log-gap':
        return keeper.retryLater(error)
      default:
        if (applyFault(error) === 'passing') return keeper.retryLater(error)
        return keeper.cannotSync(error)
    }
  }
}

function begun(message: LinkMessage): StoreDescription {
  if (message.type === 'sync-begin') return message.description
  throw new HotspareError('entry-invalid', `'${message.type}' came before a synchronisation began.`)
}

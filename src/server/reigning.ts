/**
 * Epochs as a running server learns of them: from whoever it talks to. What it does about one is decided by
 * failover/fencing.ts; here it becomes durable, is passed on to all who are connected, and acted on.
 */
import { type Meeting, meetEpoch, newestEpoch, type Teller } from '../failover/fencing.ts'
import { compareEpochs, type Epoch, epochText } from '../stream/epoch.ts'
import { hookEnvironment } from './hook-environment.ts'
import type { ServerParts } from './parts.ts'
import { reignOf } from './reign.ts'

export interface ReigningActs {
  /** The server is to go over to this peer as soon as it can, without being told to. */
  rejoinLater(upstream: string): Promise<void>
  /** An old primary has given way to this server, which has not become the primary yet. */
  finishPromotion(): void
}

export class Reigning {
  readonly #parts: ServerParts
  readonly #acts: ReigningActs

  constructor(parts: ServerParts, acts: ReigningActs) {
    this.#parts = parts
    this.#acts = acts
  }

  get newest(): Epoch {
    return newestEpoch(reignOf(this.#parts.state.value))
  }

  /** Durable when it resolves. */
  async learn(epoch: Epoch, told: Teller): Promise<Meeting> {
    const { state, settings } = this.#parts
    const { upstream, epoch: own } = state.value
    // whoever tells it: the upstream itself was promoted, or a new standby hears of an epoch for the first time
    const from = epoch.by === upstream || own.by === '' ? 'upstream' : told
    let meeting: Meeting = { kind: 'same' }
    const known = this.newest
    if (compareEpochs(epoch, known) <= 0) return meetEpoch(reignOf(state.value), epoch, from)
    await state.update(before => {
      meeting = meetEpoch(reignOf(before), epoch, from)
      if (meeting.kind === 'fenced') return { ...before, fencedBy: epoch }
      if (meeting.kind === 'follows' || meeting.kind === 'leaves-upstream') return { ...before, epoch }
      return before
    })
    // as it was decided on what is durable, whatever that had become meanwhile
    const decided = meeting as Meeting
    if (decided.kind === 'fenced') this.#fenced(decided.by)
    if (decided.kind === 'leaves-upstream') await this.#leave(epoch)
    if (compareEpochs(this.newest, known) > 0) this.#passOn()
    if (epoch.by === settings.name && decided.kind !== 'fenced') this.#acts.finishPromotion()
    return decided
  }

  #fenced(by: Epoch): void {
    const { tell, acts, settings, state, log, links } = this.#parts
    tell(
      'error',
      'fenced',
      `THIS PRIMARY WAS REPLACED by ${by.by} (epoch ${epochText(by)}): nothing of it reaches a standby any more. Its application must be stopped here; then 'hotspare rejoin ${by.by}'.`,
    )
    const rest = async () => {
      await this.#parts.become({ kind: 'fenced' })
      await acts.hook('on-demote', hookEnvironment(settings, by, log.next - 1))
    }
    void rest().catch(error =>
      tell('error', 'hook-failed', `THE APPLICATION MAY STILL WRITE HERE: ${(error as Error).message}`),
    )
    if (settings.rejoin === 'automatic' && links.has(by.by) && state.value.rejoining === undefined)
      void this.#acts.rejoinLater(by.by)
  }

  async #leave(epoch: Epoch): Promise<void> {
    const { tell, settings, state, links } = this.#parts
    const { upstream } = state.value
    if (epoch.by === settings.name) {
      tell('error', 'handed-over', `${upstream} has given way to this server, which is not promoted yet.`)
      return
    }
    tell(
      'warning',
      'upstream-replaced',
      `${epoch.by} is the primary of epoch ${epochText(epoch)}, which ${upstream} does not follow: nothing more is taken from it. 'hotspare rejoin ${epoch.by}' follows the new primary.`,
    )
    // not waited for: it may be that very session in which this was learnt
    if (upstream !== undefined && links.has(upstream))
      void links.peer(upstream).renew('a newer primary is known')
    if (settings.rejoin === 'automatic' && links.has(epoch.by)) await this.#acts.rejoinLater(epoch.by)
  }

  #passOn(): void {
    const epoch = this.newest
    for (const { current } of this.#parts.links.all())
      void current?.control.send({ type: 'epoch', epoch }).catch(() => undefined)
  }
}

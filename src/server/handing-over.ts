/**
 * A primary gives way to a standby that asks for it, losing nothing:
 *
 *     near      what the standby has not yet is sent while the application still writes
 *     stopped   on-demote stops the writers; the stores are read to their end
 *     all sent  the standby has made all of it durable
 *     fenced    by the standby's epoch, durably: the point of no return
 *
 * Before it, whatever fails leaves the primary as it was: its application is started again (on-promote). After it,
 * the answer is the same however often it is asked for, also after a crash; and this server rejoins by itself.
 */
import { meetEpoch } from '../failover/fencing.ts'
import type { LinkMessage } from '../link/messages.ts'
import { HotspareError } from '../os/errors.ts'
import { compareEpochs, type Epoch, epochText } from '../stream/epoch.ts'
import { hookEnvironment } from './hook-environment.ts'
import type { ServerParts } from './parts.ts'
import type { Link } from './peer-link.ts'
import { reignOf } from './reign.ts'
import { withinTime } from './within-time.ts'

type HandedOver = Extract<LinkMessage, { type: 'handed-over' }>

/** For the standby to come near, while the application still writes. */
const nearMsMax = 60_000
/** Without a writer: for what is left. */
const restMsMax = 60_000
const receivedPollMs = 2
const inStepPollMs = 20
/** For a refusal to be sent, while nobody writes. */
const tellMsMax = 1_000

export class HandingOver {
  readonly #parts: ServerParts
  /** Writers were told to stop. */
  #isBegun = false

  constructor(parts: ServerParts) {
    this.#parts = parts
  }

  /** Answers the peer in any case, when the link stands. */
  async answer(link: Link, epoch: Epoch): Promise<void> {
    const { tell } = this.#parts
    let message: LinkMessage
    try {
      message = await this.#handOver(link, epoch)
    } catch (error) {
      const code = error instanceof HotspareError ? error.code : 'not-handed-over'
      const text = error instanceof Error ? error.message : String(error)
      tell('error', 'not-handed-over', `Nothing was handed over to ${link.peer}: ${text}`)
      message = { type: 'not-handed-over', epoch, code, message: text.slice(0, 1000) }
    }
    // when the link is broken the peer asks again
    const sent = link.control.send(message).catch(() => undefined)
    if (this.#isBegun && message.type === 'not-handed-over') {
      // the session ends with it: who asked must have heard of it by then, or would ask again for ever
      await Promise.race([sent, this.#parts.machine.clock.sleep(tellMsMax)])
      await this.#goOn(link, epoch)
    }
    await sent
    if (message.type === 'handed-over') await this.#parts.become({ kind: 'fenced' })
  }

  async #handOver(link: Link, epoch: Epoch): Promise<HandedOver> {
    const { state, upstream, settings, acts, tell, machine, log } = this.#parts
    const already = await this.#already(epoch)
    if (already !== undefined) return already
    this.#assertMay(link, epoch)
    const signal = sessionSignal(link)
    const { clock } = machine
    await withinTime(clock, nearMsMax, signal, `${link.peer} did not come near`, async left => {
      await this.#inStep(link, left)
      await upstream.waitFor(link.peer, left)
    })
    const fromMs = clock.nowMs()
    this.#isBegun = true
    tell('warning', 'handing-over', `Writers are stopped, to hand over to ${link.peer}.`)
    await acts.hook('on-demote', hookEnvironment(settings, epoch, log.next - 1))
    await this.#tellWriters()
    const number = await withinTime(clock, restMsMax, signal, `${link.peer} did not take the rest`, left =>
      this.#sendTheRest(link, left),
    )
    const chain = await log.chainAfter(number)
    if (chain === undefined) throw new HotspareError('log-damaged', 'The end of the log is not known.')
    await state.update(before => {
      signal.throwIfAborted()
      const met = meetEpoch(reignOf(before), epoch, 'other')
      if (before.fencedBy !== undefined || met.kind !== 'fenced')
        throw new HotspareError('fenced', 'Meanwhile another primary was promoted.')
      const handedOver = { epoch, number }
      return { ...before, fencedBy: epoch, handedOver, rejoining: { upstream: link.peer } }
    })
    tell('warning', 'handed-over', `${link.peer} has all up to transaction ${number}, and takes over.`)
    return { type: 'handed-over', epoch, number, chain, withoutWriterMs: clock.nowMs() - fromMs }
  }

  /** The number that is the last here, and durable there. */
  async #sendTheRest({ peer }: Link, signal: AbortSignal): Promise<number> {
    const { upstream, log, machine, tell } = this.#parts
    const read = await upstream.drain(signal)
    await upstream.stopReading()
    const number = log.next - 1
    if (number > read)
      tell('warning', 'writers', 'Something was still written after on-demote had stopped the writers.')
    for (;;) {
      const received = upstream.servings().find(serving => serving.peer === peer)?.received
      if (received !== undefined && received >= number) return number
      signal.throwIfAborted()
      await machine.clock.sleep(receivedPollMs, signal)
    }
  }

  /** It gave way before, and the answer was lost. */
  async #already(epoch: Epoch): Promise<HandedOver | undefined> {
    const { state, log } = this.#parts
    const { handedOver } = state.value
    if (handedOver === undefined || compareEpochs(handedOver.epoch, epoch) !== 0) return undefined
    const chain = await log.chainAfter(handedOver.number)
    if (chain === undefined)
      throw new HotspareError('log-removed', 'What was handed over is not known any more.')
    return { type: 'handed-over', epoch, number: handedOver.number, chain, withoutWriterMs: 0 }
  }

  #assertMay({ peer, session }: Link, epoch: Epoch): void {
    const { role, fencedBy, enqueuing } = this.#parts.state.value
    if (!enqueuing)
      throw new HotspareError(
        'usage',
        `The stores are not read into the log now ('enqueue off'): what they have would be lost.`,
      )
    if (role !== 'primary') throw new HotspareError('usage', 'This server is no primary.')
    if (fencedBy !== undefined)
      throw new HotspareError('fenced', `This server was replaced by epoch ${epochText(fencedBy)}.`)
    if (epoch.by !== peer || meetEpoch(reignOf(this.#parts.state.value), epoch, 'other').kind !== 'fenced')
      throw new HotspareError('epoch-old', `${epochText(epoch)} is no epoch that ${peer} can begin here.`)
    if (session.peer.upstream !== this.#parts.settings.name)
      throw new HotspareError('usage', `${peer} does not take its log from this server.`)
  }

  /** Resolves when its stores are brought to it, so that it has all by taking the log. */
  async #inStep({ peer }: Link, signal: AbortSignal): Promise<void> {
    const { upstream, machine } = this.#parts
    const serving = () => upstream.servings().find(one => one.peer === peer)
    while (serving()?.state !== 'shipping') {
      signal.throwIfAborted()
      await machine.clock.sleep(inStepPollMs, signal)
    }
  }

  async #tellWriters(): Promise<void> {
    const { settings, machine, tell } = this.#parts
    for (const { store, path } of settings.stores) {
      const writers = (await machine.writersOf?.(path)) ?? []
      if (writers.length === 0) continue
      tell(
        'warning',
        'writers',
        `${writers.join(', ')} still has ${store} open for writing after on-demote. What it writes from here on does not reach the new primary, and is put aside.`,
      )
    }
  }

  /** The primary as before. */
  async #goOn(link: Link, epoch: Epoch): Promise<void> {
    const { state, acts, settings, log, tell } = this.#parts
    if (state.value.fencedBy !== undefined) return
    await this.#parts.become({ kind: 'resting' })
    await this.#parts.become({ kind: 'primary' })
    this.#parts.checks.begin()
    try {
      await acts.hook('on-promote', hookEnvironment(settings, state.value.epoch, log.next - 1))
      tell(
        'warning',
        'primary-again',
        `Handing over to ${link.peer} (epoch ${epochText(epoch)}) failed: this server is the primary as before.`,
      )
    } catch (error) {
      const text = error instanceof Error ? error.message : String(error)
      tell('error', 'hook-failed', `THE APPLICATION MAY BE STOPPED: it could not be started again. ${text}`)
    }
  }
}

/** Aborted when the session is over. */
function sessionSignal({ session, peer }: Link): AbortSignal {
  const over = new AbortController()
  void session.over.then(() => over.abort(new HotspareError('peer-away', `The link to ${peer} broke.`)))
  return over.signal
}

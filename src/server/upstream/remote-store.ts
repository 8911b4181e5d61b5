/**
 * One store at a downstream, spoken to over its channel 'sync STORE', which stays open as long as the session: each
 * synchronisation begins with 'sync-begin', and what was said before it is void.
 *
 * Answers come in the order of the questions, so several may be under way.
 */
import type { LinkMessage, StoreDescription } from '../../link/messages.ts'
import type { Channel, Session } from '../../link/session.ts'
import { HotspareError } from '../../os/errors.ts'
import type { EntryPath, Position } from '../../stream/entry.ts'

type Type = LinkMessage['type']
type Of<T extends Type> = Extract<LinkMessage, { readonly type: T }>

interface Question {
  readonly type: Type
  resolve(message: LinkMessage): void
  reject(error: unknown): void
}

/** The downstream takes no synchronisation of this store now: its copy rests until somebody releases it. */
export class Declined extends Error {
  override readonly name = 'Declined'
}

export class RemoteStore {
  readonly description: StoreDescription
  readonly #channel: Channel
  readonly #peer: string
  #questions: Question[] = []
  #over: unknown
  /** What it said at the last beginning, when nothing was sent since. */
  #fresh: { readonly position: Position | undefined; readonly hasInventory: boolean } | undefined
  #lastFlush = 0
  /** Answers to beginnings that were given up. */
  #lateReadies = 0

  constructor(session: Session, description: StoreDescription) {
    this.description = description
    this.#peer = session.peer.server
    this.#channel = session.channel(`sync ${description.store}`)
    void this.#read()
  }

  /** Begins before it is known when: `begin` goes on from there. */
  async prepare(): Promise<void> {
    this.#fresh = undefined
    this.#fresh = await this.begin()
  }

  /** Void is what was under way. Resolves when the downstream has stopped applying the store, with what it has. */
  async begin(): Promise<{ readonly position: Position | undefined; readonly hasInventory: boolean }> {
    const fresh = this.#fresh
    this.#fresh = undefined
    if (fresh !== undefined && this.#over === undefined) return fresh
    for (const question of this.#questions.splice(0)) {
      if (question.type === 'sync-ready') this.#lateReadies++
      question.reject(new HotspareError('link-broken', 'The synchronisation was begun anew.'))
    }
    return this.#ask({ type: 'sync-begin', description: this.description }, 'sync-ready')
  }

  inventoryPage(after: EntryPath | undefined): Promise<Of<'inventory-page'>> {
    return this.#ask({ type: 'inventory-ask', after }, 'inventory-page')
  }

  digests(path: EntryPath, firstBlock: number, count: number): Promise<Of<'digests'>> {
    return this.#ask({ type: 'digests-ask', path, firstBlock, count }, 'digests')
  }

  entries(data: Buffer): Promise<void> {
    return this.#channel.send({ type: 'sync-entries', data })
  }

  /** Resolves when all that was sent before is durable there. */
  async flush(): Promise<void> {
    const id = ++this.#lastFlush
    const { id: told } = await this.#ask({ type: 'sync-flush', id }, 'sync-durable')
    if (told !== id) throw this.#unexpected(`'sync-durable' ${told} in place of ${id}`)
  }

  /** Resolves when the downstream goes on with the log after `number`. */
  async end(number: number, position: Position): Promise<void> {
    await this.#ask({ type: 'sync-end', number, position }, 'sync-ended')
  }

  #ask<T extends Type>(message: LinkMessage, answer: T): Promise<Of<T>> {
    if (this.#over !== undefined) return Promise.reject(this.#over)
    return new Promise<Of<T>>((resolve, reject) => {
      this.#questions.push({ type: answer, resolve: resolve as (message: LinkMessage) => void, reject })
      this.#channel.send(message).catch(reject)
    })
  }

  async #read(): Promise<void> {
    let error: unknown
    try {
      for await (const message of this.#channel.messages()) this.#take(message)
    } catch (thrown) {
      error = thrown
    }
    this.#over = error ?? new Declined(`'${this.#peer}' does not take store '${this.description.store}' now.`)
    for (const question of this.#questions.splice(0)) question.reject(this.#over)
  }

  #take(message: LinkMessage): void {
    if (message.type === 'sync-ready' && this.#lateReadies > 0) {
      this.#lateReadies--
      return
    }
    const question = this.#questions[0]
    // what answers a synchronisation that was given up
    const isLate = question === undefined || (question.type === 'sync-ready' && message.type !== 'sync-ready')
    if (isLate) return
    if (question.type !== message.type)
      throw this.#unexpected(`'${message.type}' in place of '${question.type}'`)
    this.#questions.shift()
    question.resolve(message)
  }

  #unexpected(what: string): HotspareError {
    return new HotspareError('entry-invalid', `'${this.#peer}' sent ${what} for ${this.description.store}.`)
  }
}

/**
 * What may never be seen, at any moment:
 *
 *     prefix       a copy is what its own journal says, and that is a prefix of what some primary committed
 *     no loss      what was said to be durable at a standby is there when that one is promoted, or would be now
 *     planned      who is promoted as planned has all that the old primary had
 *     one primary  of an epoch there is one server that acts as its primary
 *
 * All is read from the disks themselves, past whatever a server says of itself.
 */
import assert from 'node:assert/strict'
import type { MemoryDisk } from '../../src/os/testing/memory-disk.ts'
import type { Random } from '../../src/os/testing/random.ts'
import type { ServerSettings } from '../../src/server/server.ts'
import { scriptJournalEnd } from '../../src/server/testing/script-driver.ts'
import { type Epoch, epochText } from '../../src/stream/epoch.ts'
import { leftAlone } from './alone.ts'
import { type Servers, storeNames } from './servers.ts'

/** What a standby was said to have. */
export interface Assurance {
  readonly peer: string
  /** The reigns under which it has to be there: that in which it was said, and those that began with all of it. */
  readonly epochs: Set<string>
  readonly journals: ReadonlyMap<string, Buffer>
}

/** A machine as it would have been found after a crash at some moment, and what was said of it by then. */
export interface SetApart {
  readonly settings: ServerSettings
  readonly disk: MemoryDisk
  readonly assured: readonly Assurance[]
}

/** A journal that was looked at and is well, and where its last whole transaction ends. */
interface Looked {
  readonly journal: Buffer
  readonly end: number
}

export class Laws {
  readonly #servers: Servers
  /** Every journal that a primary ever had, by its longest form: copies are prefixes of one of them. */
  readonly #histories = new Map<string, Buffer[]>(storeNames.map(store => [store, []]))
  readonly #assurances: Assurance[] = []
  /** What a primary had when its application was stopped, by name and reign. */
  readonly #ends = new Map<string, ReadonlyMap<string, Buffer>>()
  readonly #primaryOf = new Map<string, string>()
  /** By machine and store. */
  readonly #looked = new Map<string, Looked>()

  constructor(servers: Servers) {
    this.#servers = servers
  }

  /** So many had a primary. */
  get epochs(): number {
    return this.#primaryOf.size
  }

  /** What an application has written there, synced or not: a source may have read it, and a crash may lose it. */
  remember(writers: ReadonlySet<string>): void {
    for (const name of writers) {
      for (const store of storeNames) {
        const histories = this.#histories.get(store) as Buffer[]
        const file = this.#servers.journalFile(name, store)
        const last = histories.at(-1)
        if (last !== undefined && file.subarray(0, last.length).equals(last)) {
          if (file.length === last.length) continue
          histories.pop()
        }
        histories.push(Buffer.from(file))
      }
    }
  }

  assure(assurance: Assurance): void {
    this.#assurances.push(assurance)
  }

  /** One primary, and prefix: of all machines but those where the application is at work. */
  look(writers: ReadonlySet<string>): void {
    this.remember(writers)
    this.#lookAtPrimaries()
    for (const store of storeNames)
      for (const { name } of this.#servers.all) if (!writers.has(name)) this.#lookAtCopy(name, store)
  }

  #lookAtPrimaries(): void {
    for (const { name, epoch } of this.#servers.primaries()) {
      const key = epochText(epoch)
      const known = this.#primaryOf.get(key)
      assert.ok(
        known === undefined || known === name,
        `${known} and ${name} are both primaries of epoch ${key}`,
      )
      this.#primaryOf.set(key, name)
    }
  }

  #lookAtCopy(name: string, store: string): void {
    const file = this.#servers.journalFile(name, store)
    const place = `${name} ${store}`
    const before = this.#looked.get(place)
    if (before?.journal.equals(file)) return
    const journal = Buffer.from(file)
    // what was looked at is not read again, as long as it stands there
    const known =
      before !== undefined && journal.subarray(0, before.end).equals(before.journal.subarray(0, before.end))
        ? before.end
        : 0
    const end = known + scriptJournalEnd(journal.subarray(known))
    const copy = journal.subarray(0, end)
    const histories = this.#histories.get(store) ?? []
    assert.ok(
      histories.some(history => history.subarray(0, end).equals(copy)),
      `${name} has ${end} bytes of ${store} that nobody committed in this order`,
    )
    this.#looked.set(place, { journal, end })
  }

  /** All that was said so far to be durable there. */
  assured(name: string): readonly Assurance[] {
    return this.#assurances.filter(({ peer }) => peer === name)
  }

  /** No loss, if nothing had been left but one disk. */
  async lookAtLeft({ settings, disk, assured }: SetApart, nowMs: number, random: Random): Promise<void> {
    const left = await leftAlone(settings, disk, nowMs, random)
    if (left === undefined) return
    this.#lookAtKept(`${settings.name}, left alone,`, inReign(assured, left.epoch), left.journals)
  }

  /** No loss: `name` was promoted, and stood in the epoch `before`. What is kept is what may be expected of the new one. */
  lookAtPromoted(name: string, before: Epoch, epoch: Epoch): void {
    const journals = new Map(storeNames.map(store => [store, this.#servers.journal(name, store)]))
    this.#lookAtKept(`${name} was promoted, and`, inReign(this.assured(name), before), journals)
    for (const assurance of this.#assurances)
      if (assurance.epochs.has(epochText(before)) && lacks(assurance, journals) === undefined)
        assurance.epochs.add(epochText(epoch))
  }

  /** Nobody writes there any more in this reign. */
  ended(name: string, epoch: Epoch): void {
    const whole = (journal: Buffer) => journal.subarray(0, scriptJournalEnd(journal))
    this.#ends.set(
      `${name} ${epochText(epoch)}`,
      new Map(storeNames.map(store => [store, whole(this.#servers.journal(name, store))])),
    )
  }

  /** No loss: `name` was promoted as planned, in the place of `old`, whose reign was `epoch`. */
  lookAtPlanned(name: string, old: string, epoch: Epoch): void {
    for (const [store, had] of this.#ends.get(`${old} ${epochText(epoch)}`) ?? []) {
      const has = this.#servers.journal(name, store)
      assert.ok(
        has.subarray(0, had.length).equals(had),
        `${name} was promoted as planned with ${has.length} bytes of ${store}, and ${old} had ${had.length}`,
      )
    }
  }

  #lookAtKept(who: string, assured: readonly Assurance[], has: ReadonlyMap<string, Buffer>): void {
    for (const assurance of assured) {
      const lacking = lacks(assurance, has)
      if (lacking === undefined) continue
      const durable = assurance.journals.get(lacking)?.length
      const found = has.get(lacking)?.length
      assert.fail(`${who} has ${found} bytes of ${lacking}, and ${durable} were durable there`)
    }
  }

  /** Equal at the end. */
  lookAtEnd(primary: string): void {
    for (const store of storeNames) {
      const wanted = this.#servers.journal(primary, store)
      for (const { name } of this.#servers.all) {
        const found = this.#servers.journal(name, store)
        assert.ok(
          found.equals(wanted),
          `${name} has ${found.length} bytes of store ${store}, and the primary ${primary} ${wanted.length}`,
        )
      }
    }
  }
}

function inReign(assured: readonly Assurance[], epoch: Epoch): Assurance[] {
  return assured.filter(({ epochs }) => epochs.has(epochText(epoch)))
}

/** The first store of which not all is there. */
function lacks({ journals }: Assurance, has: ReadonlyMap<string, Buffer>): string | undefined {
  for (const [store, journal] of journals)
    if (has.get(store)?.subarray(0, journal.length).equals(journal) !== true) return store
  return undefined
}

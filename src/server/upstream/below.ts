/**
 * What a server must know again after any crash of those below it, in `below.json` of its state directory:
 *
 * - what it owes them: stores that a subscriber has in a state on which the log's next transaction does not follow. It
 *   cannot know that itself, since the log's numbers do not show it.
 * - of a primary, in which epoch a store's place in the log was made equal with the live store of this server: the place
 *   that an old primary left there means nothing to the source here.
 *
 * Invariant: a debt is durable before anything is put into the log that needs it paid, and is struck out only after the
 * subscriber has said that the store was brought to it. So a crash leaves a debt too many, never one too few.
 */
import * as v from 'valibot'
import { HotspareError } from '../../os/errors.ts'
import { readSmallFile, type Storage, writeFileDurably } from '../../os/storage.ts'
import type { StoreName } from '../../stream/entry.ts'
import { compareEpochs, type Epoch } from '../../stream/epoch.ts'

const format = 1
const fileBytesMax = 16 * 1024 * 1024
const name = v.pipe(v.string(), v.maxLength(256))
const schema = v.strictObject({
  format: v.literal(format),
  owed: v.record(name, v.array(name)),
  readIn: v.record(
    name,
    v.strictObject({ number: v.pipe(v.number(), v.safeInteger(), v.minValue(1)), by: name }),
  ),
})

interface Known {
  readonly owed: Readonly<Record<string, readonly StoreName[]>>
  readonly readIn: Readonly<Record<StoreName, Epoch>>
}

export class Below {
  readonly #storage: Storage
  readonly #path: string
  #known: Known
  #last: Promise<unknown> = Promise.resolve()

  /**
   * Where there is no file, everything is owed to `subscribers`. Throws `state-damaged`.
   */
  static async open(
    storage: Storage,
    directory: string,
    subscribers: readonly string[],
    stores: readonly StoreName[],
  ): Promise<Below> {
    const path = `${directory}/below.json`
    const bytes = await readSmallFile(storage, path, fileBytesMax)
    if (bytes !== undefined) return new Below(storage, path, parsed(path, bytes))
    const below = new Below(storage, path, { owed: {}, readIn: {} })
    await below.owe(subscribers, stores)
    return below
  }

  private constructor(storage: Storage, path: string, known: Known) {
    this.#storage = storage
    this.#path = path
    this.#known = known
  }

  owedTo(peer: string): readonly StoreName[] {
    return this.#known.owed[peer] ?? []
  }

  /** Durable when it resolves. */
  owe(peers: readonly string[], stores: readonly StoreName[]): Promise<void> {
    return this.#update(known => {
      const owed = { ...known.owed }
      for (const peer of peers) owed[peer] = [...new Set([...(owed[peer] ?? []), ...stores])]
      return { ...known, owed }
    })
  }

  /** The store was brought to the peer; of all its stores when none is named. */
  settle(peer: string, store: StoreName): Promise<void> {
    if (!this.owedTo(peer).includes(store)) return Promise.resolve()
    return this.#update(known => {
      const left = (known.owed[peer] ?? []).filter(one => one !== store)
      const { [peer]: _, ...others } = known.owed
      return { ...known, owed: left.length === 0 ? others : { ...others, [peer]: left } }
    })
  }

  isReadIn(store: StoreName, epoch: Epoch): boolean {
    const known = this.#known.readIn[store]
    return known !== undefined && compareEpochs(known, epoch) === 0
  }

  async readIn(store: StoreName, epoch: Epoch): Promise<void> {
    if (this.isReadIn(store, epoch)) return
    await this.#update(known => ({ ...known, readIn: { ...known.readIn, [store]: epoch } }))
  }

  #update(change: (known: Known) => Known): Promise<void> {
    const done = this.#last.then(async () => {
      const known = change(this.#known)
      const text = `${JSON.stringify({ format, ...known }, undefined, 1)}\n`
      await writeFileDurably(this.#storage, this.#path, Buffer.from(text))
      this.#known = known
    })
    this.#last = done.catch(() => undefined)
    return done
  }
}

function parsed(path: string, bytes: Buffer): Known {
  try {
    const { format: _, ...known } = v.parse(schema, JSON.parse(bytes.toString('utf8')))
    // the brands of what was checked above
    return known as unknown as Known
  } catch (cause) {
    throw new HotspareError(
      'state-damaged',
      `${path} is damaged: it says which stores are owed to the standbys. Remove it: then every store is compared with every standby once.`,
      { cause },
    )
  }
}

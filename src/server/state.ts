/**
 * What a server must know again after any crash, in `state.json` of its state directory. The log, the copies and the
 * stores say themselves what they hold; here stands what they cannot say.
 *
 * Invariant: a change is durable before anybody acts on it (`update` resolves), and the file is replaced as a whole, so a
 * crash leaves the old one or the new one. A file that is damaged, or of another version, stops the server: a role or an
 * epoch is never guessed.
 */

import type { PromotionRecord } from '../failover/promotion.ts'
import type { RejoinRecord } from '../failover/rejoining.ts'
import { HotspareError } from '../os/errors.ts'
import { readSmallFile, type Storage, writeFileDurably } from '../os/storage.ts'
import type { Position, StoreName } from '../stream/entry.ts'
import type { Epoch } from '../stream/epoch.ts'
import { parseState, stateFormat } from './state-schema.ts'

const stateBytesMax = 64 * 1024 * 1024

/** A copy that takes nothing more until it is released. */
export interface Quarantine {
  /** The transaction that it refused; without a file: the last that it has, and cannot be opened. */
  readonly number: number
  readonly code: string
  readonly message: string
  readonly atMs: number
  /** The refused transaction's pieces; a report stands beside it. */
  readonly file?: string
}

/** A store of a standby. */
export interface StoreState {
  /**
   * Its copy was made equal beside the log: at this (bare) position it holds all of the store up to transaction `number`.
   * A copy that has gone on since says its number itself. Undefined: whatever the copy says, it counts for nothing in
   * this log, and the store has to be synchronised.
   */
  readonly base?: { readonly position: Position; readonly number: number }
  /**
   * The store is to be synchronised, and the log has the rest that its copy still takes: up to this number. What comes
   * after it goes on from another state. Only with `base`.
   */
  readonly until?: number
  /**
   * What stands at the path was written by others than this server (it was a live store): when the store is synchronised,
   * it is taken as it is found.
   */
  readonly asFound?: boolean
  readonly quarantine?: Quarantine
}

export interface ServerState {
  readonly set: string
  readonly name: string
  /** Of the log; empty when a new standby has none yet. */
  readonly stream: string
  /** The newest that this server stands under: older ones are refused. */
  readonly epoch: Epoch
  readonly role: 'primary' | 'standby'
  readonly upstream?: string
  /** Of a primary: it was replaced. */
  readonly fencedBy?: Epoch
  /** It gave way by itself, at this transaction: whoever begins the epoch has all up to it. */
  readonly handedOver?: { readonly epoch: Epoch; readonly number: number }
  readonly enqueuing: boolean
  readonly applying: boolean
  readonly promotion?: PromotionRecord
  readonly rejoining?: RejoinRecord
  readonly stores: Readonly<Record<StoreName, StoreState>>
}

export interface ServerStateFile {
  /** As it is durable. */
  readonly value: ServerState
  /**
   * Changes come one after another, in the order of the calls; `change` gets what the one before left. Durable when it
   * resolves. When it rejects (a full disk), nothing has changed.
   */
  update(change: (state: ServerState) => ServerState): Promise<ServerState>
  /** The same of one store. */
  updateStore(store: StoreName, change: (state: StoreState) => StoreState): Promise<ServerState>
}

/** Makes the file, as `fresh` says, when there is none. Throws `state-damaged`, `state-version`, `config-invalid`. */
export async function openServerState(
  storage: Storage,
  directory: string,
  fresh: ServerState,
): Promise<ServerStateFile> {
  const path = statePath(directory)
  const found = await readServerState(storage, directory)
  if (found !== undefined) {
    if (found.set === fresh.set && found.name === fresh.name) return new StateFile(storage, path, found)
    throw new HotspareError(
      'config-invalid',
      `${directory} is the state of server '${found.name}' of set '${found.set}', not of '${fresh.name}' of '${fresh.set}'. Name another state directory.`,
    )
  }
  const file = new StateFile(storage, path, fresh)
  await file.update(state => state)
  return file
}

/** Also while the server runs; undefined when there is none. */
export async function readServerState(storage: Storage, directory: string): Promise<ServerState | undefined> {
  const path = statePath(directory)
  const bytes = await readSmallFile(storage, path, stateBytesMax)
  return bytes === undefined ? undefined : parseState(path, bytes.toString('utf8'))
}

function statePath(directory: string): string {
  return `${directory}/state.json`
}

class StateFile implements ServerStateFile {
  readonly #storage: Storage
  readonly #path: string
  #value: ServerState
  /** Never rejects. */
  #last: Promise<unknown> = Promise.resolve()

  constructor(storage: Storage, path: string, value: ServerState) {
    this.#storage = storage
    this.#path = path
    this.#value = value
  }

  get value(): ServerState {
    return this.#value
  }

  update(change: (state: ServerState) => ServerState): Promise<ServerState> {
    const done = this.#last.then(async () => {
      const value = change(this.#value)
      const text = `${JSON.stringify({ format: stateFormat, ...value }, undefined, 1)}\n`
      await writeFileDurably(this.#storage, this.#path, Buffer.from(text))
      this.#value = value
      return value
    })
    this.#last = done.catch(() => undefined)
    return done
  }

  updateStore(store: StoreName, change: (state: StoreState) => StoreState): Promise<ServerState> {
    return this.update(state => ({
      ...state,
      stores: { ...state.stores, [store]: change(state.stores[store] ?? {}) },
    }))
  }
}

/** Messages of every type, as any two servers might send them. */
import { fc } from '../../os/testing/properties.ts'
import type { EntryPath, Position, StoreName } from '../../stream/entry.ts'
import type { Epoch } from '../../stream/epoch.ts'
import type { LogPiece } from '../../stream/log-piece.ts'
import type { LinkMessage, StoreDescription, StoreStand } from '../messages.ts'

/** As plain objects, which is what is decoded. */
function record<T>(model: { [K in keyof T]: fc.Arbitrary<T[K]> }): fc.Arbitrary<T> {
  return fc.record(model, { noNullPrototype: true }) as fc.Arbitrary<T>
}

const number = fc.maxSafeNat()
const time = fc.double({ noNaN: true, noDefaultInfinity: true })
const name = fc.stringMatching(/^[A-Za-z0-9._-]{1,64}$/)
const store = name.map(text => text as StoreName)
const path = fc
  .stringMatching(/^([a-z\x80-\xff]{1,9}(\/[A-Z .]{1,5}[a-z])?)?$/)
  .map(text => text as EntryPath)
const position = fc.string({ minLength: 1, maxLength: 50, unit: 'binary' }).map(text => text as Position)
const chain = fc.stringMatching(/^[0-9a-f]{16}$/)
const text = fc.string({ unit: 'binary', maxLength: 60 })
const data = fc.uint8Array({ maxLength: 300 }).map(bytes => Buffer.from(bytes))
const epoch: fc.Arbitrary<Epoch> = record({ number, by: name })
const description: fc.Arbitrary<StoreDescription> = fc.record(
  { store, driver: name, profile: name },
  { requiredKeys: ['store', 'driver'], noNullPrototype: true },
)
const stand: fc.Arbitrary<StoreStand> = record({
  store,
  number: fc.option(number, { nil: undefined }),
  quarantined: fc.boolean(),
})
const piece: fc.Arbitrary<LogPiece> = fc.oneof(
  record({ type: fc.constant('begin' as const), number, epoch, store }),
  record({ type: fc.constant('entries' as const), data }),
  record({
    type: fc.constant('end' as const),
    number,
    chain,
    position,
    timeMs: time,
    consistent: fc.boolean(),
  }),
)
const type = <T extends LinkMessage['type']>(value: T) => fc.constant(value)

/** A cell for each type, so that none is forgotten. */
const byType: { readonly [T in LinkMessage['type']]: fc.Arbitrary<Extract<LinkMessage, { type: T }>> } = {
  subscribe: record({ type: type('subscribe'), next: number, chain, stores: fc.array(stand) }),
  subscribed: record({
    type: type('subscribed'),
    next: number,
    chain,
    restart: fc.boolean(),
    stream: text,
    epoch,
    stores: fc.array(description),
    sync: fc.array(store),
  }),
  refused: record({ type: type('refused'), code: name, message: text }),
  epoch: record({ type: type('epoch'), epoch }),
  probe: record({ type: type('probe'), id: number, payload: data }),
  probed: record({ type: type('probed'), id: number, durableMs: time }),
  'chain-ask': record({ type: type('chain-ask'), number }),
  'chain-told': record({
    type: type('chain-told'),
    number,
    chain: fc.option(chain, { nil: undefined }),
    first: number,
    next: number,
  }),
  'hand-over': record({ type: type('hand-over'), epoch }),
  'handed-over': record({ type: type('handed-over'), epoch, number, chain, withoutWriterMs: time }),
  'not-handed-over': record({ type: type('not-handed-over'), epoch, code: name, message: text }),
  log: record({ type: type('log'), pieces: fc.array(piece) }),
  mark: record({ type: type('mark'), number, timeMs: time }),
  acknowledge: record({ type: type('acknowledge'), received: number, applied: number, released: number }),
  'sync-begin': record({ type: type('sync-begin'), description }),
  'inventory-ask': record({ type: type('inventory-ask'), after: fc.option(path, { nil: undefined }) }),
  'digests-ask': record({ type: type('digests-ask'), path, firstBlock: number, count: fc.nat(1000) }),
  'sync-entries': record({ type: type('sync-entries'), data }),
  'sync-flush': record({ type: type('sync-flush'), id: number }),
  'sync-end': record({ type: type('sync-end'), number, position }),
  'sync-ready': record({
    type: type('sync-ready'),
    position: fc.option(position, { nil: undefined }),
    hasInventory: fc.boolean(),
  }),
  'inventory-page': record({
    type: type('inventory-page'),
    files: fc.array(
      record({
        path,
        size: number,
        blockBytes: number,
        digest: fc.constantFrom('blake3-256' as const, 'xxh64' as const),
      }),
    ),
    others: fc.array(
      record({ path, kind: fc.constantFrom('directory', 'symlink', 'hardlink', 'other' as const) }),
    ),
    last: fc.boolean(),
  }),
  digests: record({ type: type('digests'), path, firstBlock: number, digests: data }),
  'sync-durable': record({ type: type('sync-durable'), id: number }),
  'sync-ended': record({ type: type('sync-ended') }),
}

export const arbitraryMessage: fc.Arbitrary<LinkMessage> = fc.oneof(...Object.values(byType))

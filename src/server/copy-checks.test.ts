import assert from 'node:assert/strict'
import test from 'node:test'
import type { Driver } from '../drivers/driver.ts'
import { FaultyStorage } from '../os/testing/faulty-storage.ts'
import { MemoryDisk } from '../os/testing/memory-disk.ts'
import { type Position, storeName } from '../stream/entry.ts'
import { CopyChecks } from './copy-checks.ts'
import type { ReplicaStand } from './downstream/downstream.ts'
import type { ServerParts } from './parts.ts'
import { newClock } from './upstream/testing/test-server.ts'

const [behind, whole, never] = [storeName('behind'), storeName('whole'), storeName('never')]

test('a copy that opens as of an earlier transaction than the log has of it is said to lack what follows', async () => {
  const storage = new FaultyStorage(new MemoryDisk())
  const driver = {
    recover: async () => {},
    check: async () => ({ valid: true, findings: [], bytes: 1 }),
  } as unknown as Driver
  const parts = {
    machine: { clock: newClock(), storage },
    log: { mark: () => ({ number: 9, timeMs: 900 }) },
  } as unknown as ServerParts
  const stand = (store: ReplicaStand['store'], number: number | undefined): ReplicaStand => ({
    store,
    driver,
    copy: { path: `/${store}` } as ReplicaStand['copy'],
    number: 9,
    consistent:
      number === undefined
        ? undefined
        : { number, position: `at ${number}` as Position, timeMs: number * 100 },
  })
  const stands = [stand(behind, 6), stand(whole, 9), stand(never, undefined)]
  const found = await new CopyChecks(parts).run(stands, new AbortController().signal)
  assert.deepEqual(
    found.map(({ store, valid, lacks }) => ({ store, valid, lacks })),
    [
      { store: behind, valid: true, lacks: { fromNumber: 7, sinceMs: 600 } },
      { store: whole, valid: true, lacks: undefined },
      { store: never, valid: false, lacks: undefined },
    ],
  )
  assert.match(found[0]?.findings.join() ?? '', /as of transaction 6.*up to 9/)
})

/** A process that applies the endless script to a copy until it is killed, and prints each number that is durable. */
import { systemClock } from '../../os/clock.ts'
import { nodeStorage } from '../../os/node-storage.ts'
import type { Change } from '../../stream/entry.ts'
import { openFileReplica } from '../file-replica.ts'
import { commitOf, modelStore, type Transaction, transactionsOf } from './copy-model.ts'
import { endlessScript } from './endless-script.ts'

const [path, applies, count] = process.argv.slice(2) as [string, 'in-order' | 'atomic', string]
const script = endlessScript(Number(count))
const replica = await openFileReplica(
  {
    storage: nodeStorage,
    clock: systemClock,
    store: modelStore,
    path,
    sidecar: `${path}.hotspare`,
    resync: false,
    noDelete: false,
    onNotice() {},
  },
  { applies, blockBytes: 4096 },
)
for (let i = transactionsOf(await replica.position(modelStore)); i < script.length; i++) {
  for (const change of (script[i] as Transaction).changes)
    await replica.write({ ...change, store: modelStore } as Change)
  await replica.write(commitOf(script, i))
  if (i % 3 !== 0 && i + 1 < script.length) continue
  await replica.sync()
  process.stdout.write(`${i + 1}\n`)
}
await replica.close()

/** Plays a script of passes into a copy, from the copy's own position on: a process that a test may kill at any moment. */
import fs from 'node:fs'
import { systemClock } from '../../../os/clock.ts'
import { nodeStorage } from '../../../os/node-storage.ts'
import { storeName } from '../../../stream/entry.ts'
import { openDirectoryReplica } from '../copy-replica.ts'
import { scriptOf } from './copy-script.ts'

const [target = '', seed = '', count = ''] = process.argv.slice(2)
const store = storeName('tree')
const replica = await openDirectoryReplica({
  storage: nodeStorage,
  clock: systemClock,
  store,
  path: target,
  sidecar: `${target}.hotspare`,
  resync: false,
  noDelete: false,
  onNotice: () => {},
})
const position = await replica.position(store)
const done = position === undefined ? 0 : JSON.parse(position).pass
let shown: ReadonlyMap<string, string> | undefined
for (const { pass, entries, shows } of scriptOf(Number(seed), Number(count))) {
  shown = shows
  if (pass <= done) continue
  for (const entry of entries) await replica.write(entry)
  await replica.sync()
  process.stdout.write(`${pass}\n`)
}
await replica.close()
// the script depends on who plays it
if (process.env.SCRIPT_SHOWS !== undefined)
  fs.writeFileSync(process.env.SCRIPT_SHOWS, JSON.stringify([...(shown ?? [])]))

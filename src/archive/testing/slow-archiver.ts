/** Archives a tree (first argument) to a file (second); unless the third is 'whole', stops in the middle, to be killed there. */
import { nodeStorage } from '../../os/node-storage.ts'
import { writeArchiveFile } from '../write-archive.ts'
import { WalkedSnapshot } from './walked-snapshot.ts'

const [tree, file, how] = process.argv.slice(2) as [string, string, string | undefined]
let said = false
await writeArchiveFile(nodeStorage, file, {
  snapshot: new WalkedSnapshot(tree),
  format: 'tar',
  level: 0,
  ownName: 'own',
  signal: new AbortController().signal,
  onProgress({ bytes }) {
    if (how === 'whole' || said || bytes < 3_000_000) return
    said = true
    process.stdout.write('middle\n')
    // nothing more happens until it is killed
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0)
  },
})

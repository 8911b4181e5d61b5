import { strict as assert } from 'node:assert'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { nodeStorage } from '../../os/node-storage.ts'
import { position, storeName } from '../../stream/entry.ts'
import { FirstCopy } from './first-copy.ts'
import { PageDigests } from './page-digests.ts'

const pageBytes = 4096
const pages = 1024

test('a page that comes again replaces its older version, however large the write was that it came in', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'hotspare-first-copy-'))
  try {
    for (let round = 0; round < 20; round++) {
      const paths = { file: join(directory, `first-${round}`), digests: join(directory, `digests-${round}`) }
      const copy = await FirstCopy.begin(nodeStorage, paths, pageBytes)
      const expected = new PageDigests(join(directory, `expected-${round}`))
      const old = Buffer.alloc(pages * pageBytes, 'old.')
      for (let page = 1; page <= pages; page++) expected.update(page, old.subarray(0, pageBytes))
      await copy.write(1, old)
      for (let page = 1; page <= pages; page += 111) {
        const newer = Buffer.alloc(pageBytes, `new ${page}`)
        expected.update(page, newer)
        await copy.write(page, newer)
      }
      const commit = {
        type: 'commit',
        store: storeName('s'),
        position: position('p'),
        consistent: true,
      } as const
      await copy.seal({ ...commit, timeMs: 0, state: expected.state })
      await copy.close()
      expected.close()
      const found = readFileSync(paths.file)
      for (let page = 1; page <= pages; page += 111) {
        assert.equal(found.toString('latin1', (page - 1) * pageBytes, (page - 1) * pageBytes + 4), 'new ')
      }
    }
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
})

import type { EntryPath } from '../../stream/entry.ts'
import type { Inventory } from '../../stream/sink.ts'
import type { PageDigests } from './page-digests.ts'

const pagesAtOnce = 65536

/** Takes what a sink has of a database; nothing when it has none of this page size. */
export async function loadInventory(
  digests: PageDigests,
  inventory: Inventory | undefined,
  pageBytes: number,
): Promise<void> {
  digests.clear()
  const file = await inventory?.file('' as EntryPath)
  if (file === undefined || file.digest !== 'xxh64' || file.blockBytes !== pageBytes) return
  const pages = Math.ceil(file.size / pageBytes)
  for (let first = 1; first <= pages; first += pagesAtOnce) {
    const count = Math.min(pagesAtOnce, pages - first + 1)
    digests.load(first, Buffer.from(await file.digests(first - 1, count)))
  }
  digests.resize(pages)
}

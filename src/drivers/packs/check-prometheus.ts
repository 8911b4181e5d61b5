/**
 * Reads every page of every segment and checkpoint: fragment by fragment with its CRC-32C. Only the newest segment may
 * end in the middle of a record, which Prometheus drops when it opens.
 */
import type { Storage } from '../../os/storage.ts'
import { displayPath, entryPath, nativePath } from '../../stream/entry.ts'
import { type Finding, proved, refuted } from './finding.ts'
import type { Layout } from './profile.ts'
import { checkPage, pageBytes } from './prometheus-page.ts'

const pagesAtOnce = 32

export async function checkPrometheusWal(
  storage: Storage,
  root: string,
  layout: Layout,
  signal: AbortSignal,
): Promise<Finding[]> {
  const findings: Finding[] = []
  const files = [...layout.packs]
  const newest = layout.packs.at(-1)
  for (const tree of layout.trees) {
    const names = await storage.list(nativePath(root, entryPath(tree)))
    files.push(...names.sort().map(name => `${tree}/${name}`))
  }
  let records = 0
  for (const name of files) {
    signal.throwIfAborted()
    const result = await checkSegment(storage, root, name, name === newest)
    if (typeof result === 'number') records += result
    else findings.push(refuted(`segment ${displayPath(name)} ${result.damage}`))
  }
  if (findings.length === 0)
    findings.push(
      proved(`${files.length} segments hold ${records} record fragments, and each checksum is right`),
    )
  return findings
}

async function checkSegment(
  storage: Storage,
  root: string,
  name: string,
  mayBeTorn: boolean,
): Promise<number | { damage: string }> {
  const file = await storage.open(nativePath(root, entryPath(name)), 'read')
  try {
    const buffer = Buffer.allocUnsafe(pagesAtOnce * pageBytes)
    let records = 0
    let isOpen = false
    for (let offset = 0; ; ) {
      const length = await file.read(buffer, offset)
      for (let at = 0; at < length; at += pageBytes) {
        const page = buffer.subarray(at, Math.min(length, at + pageBytes))
        const checked = checkPage(page, isOpen)
        isOpen = checked.isOpen
        records += checked.records
        const where = `at offset ${offset + at + checked.validBytes}`
        if (checked.damage !== undefined) return { damage: `is damaged ${where}: ${checked.damage}` }
        const torn = checked.validBytes < page.length
        if (torn && !(mayBeTorn && page.length < pageBytes))
          return { damage: `ends in the middle of a record ${where}` }
      }
      if (length < buffer.length) {
        return isOpen && !mayBeTorn ? { damage: 'ends in the middle of a record' } : records
      }
      offset += length
    }
  } finally {
    await file.close()
  }
}

/** Proves a redis-aof copy: its manifest, its files, and what Redis's own programs say of a clone. */

import { readSmallFile } from '../../os/storage.ts'
import { displayPath } from '../../stream/entry.ts'
import type { CheckOptions, CloneOptions } from '../driver.ts'
import { type Finding, proved, refuted } from './finding.ts'
import { type Layout, readSmallBytesMax } from './profile.ts'
import { checkRedisClone } from './redis-judges.ts'
import { parseManifest } from './redis-manifest.ts'

/** `clone` makes a consistent clone of the copy; it is removed afterwards. */
export async function checkRedisCopy(
  options: CheckOptions,
  layout: Layout,
  clone: (options: CloneOptions) => Promise<unknown>,
): Promise<Finding[]> {
  const { storage, clock, signal, sidecar } = options
  const manifest = layout.wholes[0]?.name
  if (manifest === undefined) return [refuted('there is no manifest')]
  const scratch = `${sidecar}/check`
  // the name of one who was killed is free again
  await storage.removeTree(scratch)
  await storage.makeDirectory(scratch)
  try {
    const directory = `${scratch}/appendonlydir`
    await clone({ ...options, destination: directory, onProgress: () => {} })
    const bytes = await readSmallFile(storage, `${directory}/${manifest}`, readSmallBytesMax)
    const parsed = bytes === undefined ? { invalid: 'it is not there' } : parseManifest(bytes)
    if ('invalid' in parsed)
      return [refuted(`the manifest ${displayPath(manifest)} is not valid: ${parsed.invalid}`)]
    const findings: Finding[] = []
    const needed = parsed.files.filter(file => file.type !== 'history')
    for (const { name } of needed) {
      const stat = await storage.stat(`${directory}/${name}`)
      if (stat?.kind !== 'file')
        findings.push(refuted(`the manifest names ${displayPath(name)}, which is not there`))
    }
    if (findings.length > 0) return findings
    findings.push(proved(`the manifest is valid, and all ${needed.length} files that it names are there`))
    const lastIncremental = needed.findLast(file => file.type === 'incremental')?.name
    findings.push(...(await checkRedisClone({ directory, manifest, lastIncremental, clock, signal })))
    return findings
  } finally {
    await storage.removeTree(scratch)
  }
}

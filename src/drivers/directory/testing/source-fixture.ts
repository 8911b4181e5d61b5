import fs from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { systemClock } from '../../../os/clock.ts'
import { nodeStorage } from '../../../os/node-storage.ts'
import { storeName } from '../../../stream/entry.ts'
import { pump } from '../../../stream/pump.ts'
import type { Sink } from '../../../stream/sink.ts'
import type { Notice } from '../../driver.ts'
import { type DirectorySource, openDirectorySource } from '../source.ts'

export const store = storeName('tree')

export function scratch(t: TestContext): string {
  const path = fs.mkdtempSync(join(tmpdir(), 'hotspare-directory-'))
  t.after(() => fs.rmSync(path, { recursive: true, force: true, maxRetries: 3 }))
  return path
}

export interface OpenedTree {
  readonly source: DirectorySource
  readonly notices: Notice[]
  /** One pass, as the pump does it. */
  pass(sink: Sink): Promise<void>
}

export async function openTree(t: TestContext, path: string, index: string): Promise<OpenedTree> {
  fs.mkdirSync(index, { recursive: true })
  const notices: Notice[] = []
  const source = await openDirectorySource({
    storage: nodeStorage,
    clock: systemClock,
    store,
    path,
    driverOptions: {},
    scratch: index,
    onNotice: notice => notices.push(notice),
  })
  t.after(() => source.close())
  const signal = new AbortController().signal
  return {
    source,
    notices,
    pass: async sink => void (await pump({ store, source, sink, clock: systemClock, signal, once: true })),
  }
}

/** Runs a script of transactions into a replica on a disk that fails, and holds the copy against the model's laws. */
import assert from 'node:assert/strict'
import { blake3 } from '@napi-rs/blake-hash'
import type { Replica } from '../../drivers/driver.ts'
import { systemClock } from '../../os/clock.ts'
import { FaultyStorage, type Plan, type Step } from '../../os/testing/faulty-storage.ts'
import { MemoryDisk } from '../../os/testing/memory-disk.ts'
import { Random } from '../../os/testing/random.ts'
import type { Change } from '../../stream/entry.ts'
import { copyPaths } from '../copy-paths.ts'
import { openFileReplica } from '../file-replica.ts'
import { checkRecorded } from '../recorded-check.ts'
import { readState } from '../state-log.ts'
import { assertConsistent, assertPrefixInOrder, snapshotOf } from './copy-laws.ts'
import {
  commitOf,
  difference,
  type ModelStep,
  modelSteps,
  modelStore,
  snapshotAfter,
  type Transaction,
  transactionsOf,
} from './copy-model.ts'

const target = '/data/copy'
const sidecar = '/data/copy.hotspare'

export interface HarnessOptions {
  readonly applies: 'in-order' | 'atomic'
  readonly script: readonly Transaction[]
  readonly blockBytes: number
  readonly seed: number
  /** Whether there is a sync after so many changes of a transaction; the commit counts as one. */
  syncsAfter?(transaction: number, changes: number, isCommit: boolean): boolean
}

/** What became of a run: how many transactions were acknowledged, and what ended it. */
export interface Run {
  readonly acknowledged: number
  /** As many of them must be seen in the copy. */
  readonly shown: number
  readonly error: unknown
}

export class CopyHarness {
  readonly #options: HarnessOptions
  readonly #steps: readonly ModelStep[]
  readonly #consistent: readonly number[]

  constructor(options: HarnessOptions) {
    this.#options = options
    this.#steps = modelSteps(options.script)
    this.#consistent = [0, ...options.script.flatMap(({ consistent }, i) => (consistent ? [i + 1] : []))]
  }

  async newStorage(plan?: Plan): Promise<FaultyStorage> {
    const disk = new MemoryDisk()
    const storage = new FaultyStorage(disk)
    await storage.makeDirectory(sidecar)
    await storage.syncDirectory('/')
    await storage.syncDirectory('/data')
    return new FaultyStorage(disk, plan)
  }

  open(storage: FaultyStorage): Promise<Replica> {
    const { applies, blockBytes } = this.#options
    return openFileReplica(
      {
        storage,
        clock: systemClock,
        store: modelStore,
        path: target,
        sidecar,
        resync: false,
        noDelete: false,
        onNotice() {},
      },
      { applies, blockBytes },
    )
  }

  /** Sends what the replica does not have, to the end or to a fault. */
  async run(storage: FaultyStorage): Promise<Run> {
    const { script } = this.#options
    const syncsAfter = this.#options.syncsAfter ?? ((_transaction, _changes, isCommit) => isCommit)
    let acknowledged = 0
    let shown = 0
    let isHiding = false
    try {
      const replica = await this.open(storage)
      try {
        for (let i = transactionsOf(await replica.position(modelStore)); i < script.length; i++) {
          const { changes } = script[i] as Transaction
          for (const [count, change] of changes.entries()) {
            await replica.write({ ...change, store: modelStore } as Change)
            isHiding ||= this.#hides(i)
            if (!syncsAfter(i, count + 1, false)) continue
            await replica.sync()
            acknowledged = i
          }
          await replica.write(commitOf(script, i))
          if (!syncsAfter(i, changes.length + 1, true) && i + 1 < script.length) continue
          await replica.sync()
          acknowledged = i + 1
          // what is in the journal shows when it ends with a consistent commit
          if (script[i]?.consistent) isHiding = false
          else if (isHiding || shown === 0 || this.#options.applies === 'atomic') continue
          shown = i + 1
        }
        await replica.position(modelStore)
      } finally {
        await replica.close()
      }
    } catch (error) {
      return { acknowledged, shown, error }
    }
    return { acknowledged, shown, error: undefined }
  }

  /** Something in the transaction goes through the journal. */
  #hides(transaction: number): boolean {
    return this.#steps.some(step => step.isHidden && step.transactions === transaction)
  }

  async wholeRun(): Promise<readonly Step[]> {
    const storage = await this.newStorage()
    const { error } = await this.run(storage)
    if (error !== undefined) throw error
    const steps = [...storage.steps]
    await this.assertFinished(storage)
    return steps
  }

  async #assertLaws(storage: FaultyStorage, shown: number): Promise<void> {
    const found = await snapshotOf(storage, target)
    if (found === undefined) assert.ok(shown === 0, `the copy is gone, after it was seen at ${shown}`)
    else if (this.#options.applies === 'in-order') assertPrefixInOrder(found, this.#steps, shown)
    else assertConsistent(found, this.#steps, this.#consistent, shown)
  }

  /** A copy that is opened again keeps the laws, has what was acknowledged, comes to the end, and stays there. */
  async assertRecovers(
    storage: FaultyStorage,
    { acknowledged, shown }: Pick<Run, 'acknowledged' | 'shown'>,
  ): Promise<void> {
    const state = await readState(storage, copyPaths(sidecar).state)
    // else it is repaired when it is opened, and may be looked at then
    if (state?.applying === undefined && state?.intents.length === 0) await this.#assertLaws(storage, shown)
    const replica = await this.open(storage)
    const count = transactionsOf(await replica.position(modelStore))
    assert.ok(count >= acknowledged, `position after ${count}, though ${acknowledged} were acknowledged`)
    const consistent = transactionsOf(replica.consistent()?.position)
    assert.ok(
      consistent >= Math.max(0, ...this.#consistent.filter(other => other <= shown)),
      'less is consistent',
    )
    await this.#assertLaws(storage, Math.max(shown, consistent))
    // before it can be seen, and in order, it may have more than at its position
    const isExact = this.#options.applies === 'atomic' && replica.consistent() !== undefined
    if (isExact) await this.#assertInventory(replica, count)
    await replica.close()
    const { error } = await this.run(storage)
    if (error !== undefined) throw error
    await this.assertFinished(storage)
    await this.#assertDurable(storage)
  }

  /** What the replica says that it has is what the source had at the position, applied or not. */
  async #assertInventory(replica: Replica, count: number): Promise<void> {
    const expected = snapshotAfter(this.#steps, count)
    const inventory = await replica.inventory?.(modelStore)
    const found: string[] = []
    for await (const { path, size, blockBytes, digests } of inventory?.files() ?? []) {
      const bytes = expected.get(path)
      assert.ok(typeof bytes === 'object' && bytes.length === size, `'${path}' has ${size} bytes`)
      const blocks = Math.ceil(size / blockBytes)
      const given = await digests(0, blocks)
      for (let block = 0; block < blocks; block++) {
        const digest = blake3(bytes.subarray(block * blockBytes, (block + 1) * blockBytes))
        assert.ok(digest.equals(given.subarray(32 * block, 32 * (block + 1))), `block ${block} of '${path}'`)
      }
      found.push(path)
    }
    const files = [...expected].filter(([, node]) => typeof node === 'object').map(([path]) => path)
    assert.deepEqual(found, files.sort())
  }

  async assertFinished(storage: FaultyStorage): Promise<void> {
    const found = await snapshotOf(storage, target)
    assert.ok(found !== undefined, 'there is no copy')
    assert.equal(difference(found, snapshotAfter(this.#steps, this.#options.script.length)), undefined)
    if (!this.#options.script.at(-1)?.consistent) return
    const { faults } = await checkRecorded({
      storage,
      clock: systemClock,
      store: modelStore,
      path: target,
      sidecar,
      signal: new AbortController().signal,
      onProgress() {},
      onNotice() {},
    })
    assert.deepEqual(faults, [])
    await (await this.open(storage)).close()
    const left = (await storage.list(sidecar)).filter(
      name => !name.endsWith('.lock') && !['state.log', 'stage'].includes(name),
    )
    const hasStages = (await storage.stat(copyPaths(sidecar).stages)) !== undefined
    const stages = hasStages ? await storage.list(copyPaths(sidecar).stages) : []
    assert.deepEqual([left, stages], [[], []], 'left over in the sidecar')
  }

  /** All of it was acknowledged, so that a power failure takes nothing. */
  async #assertDurable(storage: FaultyStorage): Promise<void> {
    const after = new FaultyStorage(storage.disk.crash(new Random(this.#options.seed)))
    const replica = await this.open(after)
    assert.equal(transactionsOf(await replica.position(modelStore)), this.#options.script.length)
    await replica.close()
    await this.assertFinished(after)
  }
}

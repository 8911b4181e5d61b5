/**
 * Opens a copy: repairs what a crash left, and refuses what is not ours or was changed.
 *
 *     <sidecar>/state.log   what the copy consists of, up to which commit (state-log.ts)
 *     <sidecar>/journal     changes that are not applied yet (redo-journal.ts)
 *     <sidecar>/stage/N     new versions of files that do not have their name yet
 *     <sidecar>/first       the first copy, until it is consistent and takes the target's name
 *
 * | a crash                                | leaves                             | and here                          |
 * | while bytes are appended               | bytes beyond the state             | compared as the source sends them |
 * | around a change of names               | it was announced in the state      | done again                        |
 * | while a journal is written             | what follows its last commit       | dropped                           |
 * | while a journal is applied             | a torn copy, the journal, 'applying' | applied again from there        |
 * | after that                             | a journal that the state calls applied | dropped                       |
 * | before the first copy takes its name   | `first`                            | tidied, gone on with              |
 *
 * Worst outcome: what was sent after the last sync is sent again.
 */
import { HotspareError, isSystemError } from '../os/errors.ts'
import { parentDirectory, type Storage } from '../os/storage.ts'
import type { EntryPath } from '../stream/entry.ts'
import { CopyDisk } from './copy-disk.ts'
import { examineCopy } from './copy-examination.ts'
import type { CopyLocks } from './copy-locks.ts'
import { copyPaths } from './copy-paths.ts'
import { CopyRecorder } from './copy-recorder.ts'
import { takeOver } from './copy-takeover.ts'
import type { CopyFile } from './copy-tree.ts'
import { walkCopy } from './copy-walk.ts'
import { applyJournal } from './journal-applying.ts'
import { type JournalPlace, RedoJournal } from './redo-journal.ts'
import { type CopyState, emptyState, readState, StateLog } from './state-log.ts'
import { changeTree } from './tree-change.ts'

export interface OpeningOptions {
  readonly storage: Storage
  readonly locks: CopyLocks
  readonly target: string
  readonly sidecar: string
  readonly resync: boolean
  readonly appliesInOrder: boolean
  readonly blockBytes: number
}

export interface OpenedCopy {
  readonly recorder: CopyRecorder
  /** Holds commits that do not show yet; the tree has its changes. */
  readonly journal: RedoJournal | undefined
  /** The copy has the target's name. */
  readonly visible: boolean
  readonly excess: Map<CopyFile, number>
  /** The highest number of a new version that is in use. */
  readonly lastStage: number
}

export async function openCopy(options: OpeningOptions): Promise<OpenedCopy> {
  if (options.resync) return openAsItIs(options)
  const { storage, sidecar, target } = options
  const opened = await StateLog.open(storage, copyPaths(sidecar).state)
  if (opened === undefined) {
    if (!(await isVacant(storage, target))) throw foreign(target)
    return begin(options)
  }
  const { log, state } = opened
  try {
    const visible = await findPlace(options, state)
    const disk = new CopyDisk(storage, visible ? target : copyPaths(sidecar).first, copyPaths(sidecar).stages)
    return await repair(options, new CopyRecorder(state, disk, log), visible)
  } catch (error) {
    await log.close()
    throw error
  }
}

/** True when the copy has the target's name already. Throws when something else has, or when the copy is gone. */
async function findPlace({ storage, target, sidecar }: OpeningOptions, state: CopyState): Promise<boolean> {
  const first = await storage.stat(copyPaths(sidecar).first)
  const published = first === undefined && state.tree.root !== undefined
  if (!published) {
    if (!(await isVacant(storage, target))) throw foreign(target)
    return false
  }
  if ((await storage.stat(target)) === undefined) {
    throw new HotspareError(
      'target-changed',
      `The copy '${target}' is gone: somebody else removed or moved it. Put it back, or use --resync to make a new one.`,
      { details: { path: target } },
    )
  }
  return true
}

async function repair(
  options: OpeningOptions,
  recorder: CopyRecorder,
  visible: boolean,
): Promise<OpenedCopy> {
  const { storage, sidecar, locks } = options
  const { state, disk } = recorder
  await completeNames(recorder, locks)
  const journal = await openJournal(journalPlace(storage, sidecar, state.tree.blockBytes), state)
  const begun = state.applying
  if (
    begun !== undefined &&
    (journal?.generation !== begun.generation || journal.durable?.end !== begun.end)
  ) {
    throw new HotspareError(
      'state-damaged',
      `The redo journal of '${disk.root}' was being applied, and is not what it was. Use --resync to compare anew.`,
    )
  }
  // a copy that is torn by a journal that was being applied can only be looked at afterwards
  let excess = begun === undefined ? await examine(options, recorder, visible) : undefined
  const stages = new Set<number>()
  let pending = journal
  if (journal !== undefined) {
    for (const stage of await replay(journal, recorder)) stages.add(stage)
    if (journal.durable?.commit.consistent || !visible) {
      await applyJournal(journal, recorder, locks, begun?.offset ?? journal.begin)
      pending = undefined
      stages.clear()
    }
  }
  await disk.clearStages(stages)
  excess ??= await examine(options, recorder, visible)
  const opened = { recorder, journal: pending, excess, lastStage: Math.max(0, ...stages) }
  if (visible || !recorder.state.commit?.consistent) return { ...opened, visible }
  await publish(recorder, options.target, sidecar)
  return { ...opened, visible: true }
}

/** Changes of names that were announced: those that were not made are made. */
async function completeNames(recorder: CopyRecorder, locks: CopyLocks): Promise<void> {
  const { state, disk } = recorder
  if (state.intents.length === 0) return
  const lock = await locks.names('exclusive')
  try {
    for (const op of state.intents) await disk.perform(op)
    await disk.sync()
    // they must not be done again when their names, or the numbers of new versions, mean something else
    await recorder.note({ kind: 'done' })
  } finally {
    await lock.release()
  }
}

/** Entries are gathered to about a block before they are written. */
export function journalPlace(storage: Storage, sidecar: string, blockBytes: number): JournalPlace {
  return { storage, path: copyPaths(sidecar).journal, bufferBytes: blockBytes }
}

async function openJournal(place: JournalPlace, state: CopyState): Promise<RedoJournal | undefined> {
  const journal = await RedoJournal.open(place)
  if (journal !== undefined && journal.generation > state.appliedGeneration) return journal
  await journal?.close()
  await place.storage.remove(place.path)
  return undefined
}

/** Brings the tree up to the journal's end; gives the new versions that stand in the sidecar for it. */
async function replay(journal: RedoJournal, recorder: CopyRecorder): Promise<number[]> {
  const stages: number[] = []
  for await (const { entry } of journal.entries(journal.begin)) {
    const { ops, file } = changeTree(recorder.state.tree, entry)
    recorder.namesChanged(ops)
    if (file !== undefined) recorder.fileChanged(file)
    if (entry.type === 'take') stages.push(entry.stage)
    if (entry.type === 'commit') recorder.committed(entry)
  }
  return stages
}

async function examine(
  { storage, appliesInOrder }: OpeningOptions,
  recorder: CopyRecorder,
  visible: boolean,
): Promise<Map<CopyFile, number>> {
  const { state, disk } = recorder
  if (visible) return (await examineCopy(storage, disk.root, state, appliesInOrder)).excess
  await tidy(recorder)
  await examineCopy(storage, disk.root, state, false)
  return new Map()
}

/** What a crash left of the first copy beyond what is recorded, which nobody has seen, goes. */
async function tidy({ state, disk }: CopyRecorder): Promise<void> {
  const unknown: EntryPath[] = []
  for await (const { path, stat } of walkCopy(disk.storage, disk.root)) {
    const node = state.tree.find(path)
    if (node === undefined) unknown.push(path)
    else if (node.kind === 'file' && stat.kind === 'file' && stat.size > node.file.size)
      await disk.truncate(path, node.file.size)
  }
  for (const path of unknown) await disk.perform({ kind: 'remove', path })
  await disk.sync()
}

/** The first copy takes the target's name, by one rename. */
export async function publish(recorder: CopyRecorder, target: string, sidecar: string): Promise<void> {
  const { disk, state } = recorder
  try {
    await disk.storage.rename(disk.root, target)
  } catch (error) {
    if (isSystemError(error, 'ENOTEMPTY', 'EEXIST', 'EISDIR', 'ENOTDIR')) throw foreign(target)
    if (!isSystemError(error, 'EXDEV', 'EBUSY')) throw error
    throw new HotspareError(
      'target-mount',
      `The first copy cannot take the name '${target}': it is a mount point, or lies on another file system than '${sidecar}'. Give a directory below it.`,
      { cause: error, details: { path: target } },
    )
  }
  disk.moved(target)
  await disk.storage.syncDirectory(parentDirectory(target))
  await disk.storage.syncDirectory(sidecar)
  // a file's time of change moves with its name
  if (state.tree.root?.kind !== 'file') return
  recorder.fileChanged(state.tree.root.file)
  await recorder.settle()
}

/** Begins a first copy. */
async function begin({ storage, sidecar, blockBytes }: OpeningOptions): Promise<OpenedCopy> {
  const paths = copyPaths(sidecar)
  await storage.removeTree(paths.first)
  await storage.removeTree(paths.stages)
  await storage.remove(paths.journal)
  const state = emptyState(blockBytes)
  const log = await StateLog.create(storage, paths.state, state)
  const disk = new CopyDisk(storage, paths.first, paths.stages)
  const recorder = new CopyRecorder(state, disk, log)
  return { recorder, journal: undefined, visible: false, excess: new Map(), lastStage: 0 }
}

/** Takes what is there as it is, with no position: the source compares it and sends the difference. */
async function openAsItIs(options: OpeningOptions): Promise<OpenedCopy> {
  const { storage, sidecar, target } = options
  const paths = copyPaths(sidecar)
  const first = await storage.stat(paths.first)
  const vacant = await isVacant(storage, target)
  if (vacant && first === undefined) return begin(options)
  const visible = !vacant
  if (visible) await storage.removeTree(paths.first)
  const recorded = await whatIsRecorded(storage, paths.state)
  const blockBytes = recorded?.tree.blockBytes ?? options.blockBytes
  const root = visible ? target : paths.first
  const state = emptyState(blockBytes)
  state.tree = await takeOver(
    storage,
    root,
    recorded?.applying === undefined ? recorded?.tree : undefined,
    blockBytes,
  )
  state.appliedGeneration = Math.max(
    recorded?.appliedGeneration ?? 0,
    await generationOf(journalPlace(storage, sidecar, blockBytes)),
  )
  const log = await StateLog.create(storage, paths.state, state)
  await storage.remove(paths.journal)
  await storage.removeTree(paths.stages)
  const recorder = new CopyRecorder(state, new CopyDisk(storage, root, paths.stages), log)
  return { recorder, journal: undefined, visible, excess: new Map(), lastStage: 0 }
}

async function whatIsRecorded(storage: Storage, path: string): Promise<CopyState | undefined> {
  try {
    return await readState(storage, path)
  } catch (error) {
    // that it cannot be read is what brings people here: everything is read from the copy instead
    if (error instanceof HotspareError && ['state-damaged', 'state-version'].includes(error.code))
      return undefined
    throw error
  }
}

async function generationOf(place: JournalPlace): Promise<number> {
  try {
    const journal = await RedoJournal.open(place)
    await journal?.close()
    return journal?.generation ?? 0
  } catch (error) {
    if (error instanceof HotspareError && error.code === 'state-damaged') return 0
    throw error
  }
}

async function isVacant(storage: Storage, target: string): Promise<boolean> {
  const stat = await storage.stat(target)
  if (stat === undefined) return true
  return stat.kind === 'directory' && (await storage.list(target)).length === 0
}

function foreign(target: string): HotspareError {
  return new HotspareError(
    'target-foreign',
    `'${target}' exists and is not a copy that was made by hotspare. Give another name, or use --resync to compare it with the source and send the difference.`,
    { details: { path: target } },
  )
}

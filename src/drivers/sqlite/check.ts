/**
 * Proves that a copy is valid: its content is that of a recorded commit, page by page; the engine finds it whole; and,
 * when asked, it equals its source, or a commit that the source's log still has.
 *
 * Nothing is changed, and neither the follower nor the source's writers are held (but those of a source that is not
 * in WAL mode, while it is read).
 */
import { statSync } from 'node:fs'
import { describeSystemError, HotspareError } from '../../os/errors.ts'
import type { CheckOptions, CheckReport, LiveCheckOptions } from '../driver.ts'
import { digestFile, type ReadProgress, readPage, visitFrames } from './copy-pages.ts'
import { type CopySnapshot, openCopySnapshot, withScratchDigests } from './copy-snapshot.ts'
import type { CopyContent } from './copy-state.ts'
import { markWalMode } from './database-header.ts'
import { DatabaseSnapshot } from './database-snapshot.ts'
import { describeSourceError } from './engine.ts'
import { IntegrityProcess } from './integrity-process.ts'
import type { PageDigests } from './page-digests.ts'

type Finding = CheckReport['findings'][number]

export async function checkSqliteCopy(options: CheckOptions): Promise<CheckReport> {
  try {
    return await withScratchDigests(options, 'copy', digests => check(options, digests))
  } catch (error) {
    throw describeSystemError(error, `Checking ${options.path}`)
  }
}

/** Of a database in WAL mode its log is not begun anew meanwhile; nobody waits. */
export async function checkLiveDatabase({ path, signal }: LiveCheckOptions): Promise<CheckReport> {
  const integrity = new IntegrityProcess(path, signal)
  try {
    const finding = integrityFinding(await integrity.check())
    return { valid: finding.ok, findings: [finding], bytes: sizeOf(path) }
  } catch (error) {
    signal.throwIfAborted()
    const described = describeSourceError(error, path)
    // damage that the engine cannot even go through
    if (!(described instanceof HotspareError) || described.code !== 'source-invalid') throw described
    return { valid: false, findings: [{ ok: false, what: described.message }], bytes: sizeOf(path) }
  } finally {
    await integrity.close()
  }
}

async function check(options: CheckOptions, digests: PageDigests): Promise<CheckReport> {
  const integrity = new IntegrityProcess(options.path, options.signal)
  try {
    const { snapshot, contents } = await openCopySnapshot(options, integrity)
    try {
      return await checkSnapshot(options, { snapshot, contents }, integrity, digests)
    } finally {
      // first, so that the snapshot is the last who has the copy open
      await integrity.close()
      snapshot.close()
    }
  } finally {
    await integrity.close()
  }
}

async function checkSnapshot(
  options: CheckOptions,
  { snapshot, contents }: CopySnapshot,
  integrity: IntegrityProcess,
  digests: PageDigests,
): Promise<CheckReport> {
  const findings: Finding[] = []
  let bytes = 0
  const againstBytes = options.against === undefined ? 0 : sizeOf(options.against)
  const totalBytes = snapshot.fileBytes + snapshot.logBytes + againstBytes
  const progress: ReadProgress = {
    signal: options.signal,
    onBytes(more) {
      bytes += more
      options.onProgress({ bytes, totalBytes: Math.max(bytes, totalBytes) })
    },
  }
  const content = await checkContent(snapshot, contents, digests, progress, findings)
  // while the copy is held: what the source commits from now on is later than it
  if (options.against !== undefined) {
    findings.push(await compare(options, options.against, digests, progress))
  }
  if (content) findings.push(await checkIntegrity(integrity, options.signal))
  return { valid: findings.every(finding => finding.ok), findings, bytes }
}

/** True when the pages could be read at all. */
async function checkContent(
  snapshot: DatabaseSnapshot,
  contents: readonly CopyContent[],
  digests: PageDigests,
  progress: ReadProgress,
  findings: Finding[],
): Promise<boolean> {
  try {
    await snapshot.digest(digests, progress)
  } catch (error) {
    if (!(error instanceof HotspareError) || error.code !== 'target-invalid') throw error
    findings.push({ ok: false, what: error.message })
    return false
  }
  const content = contents.find(candidate => candidate.state === digests.state)
  if (content === undefined) {
    findings.push({
      ok: false,
      what: `the content is not what was recorded: its digest is ${digests.state}, recorded is ${contents[0]?.state}`,
    })
  } else if (content.position === null) {
    findings.push({
      ok: false,
      what: 'the copy was taken over as it was found, and has not got a commit of its source yet',
    })
  } else {
    const at = new Date(content.timeMs).toISOString()
    findings.push({
      ok: true,
      what: `all ${snapshot.pages} pages have the digest of the source's commit of ${at} (${digests.state})`,
    })
  }
  return true
}

async function checkIntegrity(integrity: IntegrityProcess, signal: AbortSignal): Promise<Finding> {
  try {
    return integrityFinding(await integrity.check())
  } catch (error) {
    signal.throwIfAborted()
    return { ok: false, what: `SQLite's integrity_check could not run: ${(error as Error).message}` }
  }
}

function integrityFinding(messages: readonly string[]): Finding {
  if (messages.length === 1 && messages[0] === 'ok')
    return { ok: true, what: "SQLite's integrity_check finds no fault" }
  const more = messages.length > 5 ? ` and ${messages.length - 5} more` : ''
  return {
    ok: false,
    what: `SQLite's integrity_check finds faults: ${messages.slice(0, 5).join('; ')}${more}`,
  }
}

/**
 * Compares with the source as it is now. Where it is ahead, its log is searched for the copy's own commit: equality
 * there is as good.
 */
function compare(
  options: CheckOptions,
  source: string,
  copy: PageDigests,
  progress: ReadProgress,
): Promise<Finding> {
  if (statSync(source, { throwIfNoEntry: false }) === undefined) {
    throw new HotspareError('source-missing', `There is no source at ${source}.`)
  }
  return withScratchDigests(options, 'source', async digests => {
    let snapshot: DatabaseSnapshot | undefined
    try {
      snapshot = await DatabaseSnapshot.open(source, options.clock)
      const commitsAhead = await digestSource(snapshot, digests, copy, progress)
      if (digests.state === copy.state) {
        return { ok: true, what: `all ${snapshot.pages} pages are equal to the source's` }
      }
      if (commitsAhead !== undefined) {
        return {
          ok: true,
          what: `the copy is equal to the source as it was ${commitsAhead} commits ago, proved by the source's log; ${countDifferent(digests, copy)} pages have changed since`,
        }
      }
      return {
        ok: false,
        what: `${countDifferent(digests, copy)} of ${snapshot.pages} pages differ from the source, whose log does not have the copy's commit any more: let the copy catch up, and check again`,
      }
    } catch (error) {
      throw describeSourceError(error, source)
    } finally {
      snapshot?.close()
    }
  })
}

/** How many commits ago the source was what the copy is, if its log tells. */
async function digestSource(
  snapshot: DatabaseSnapshot,
  digests: PageDigests,
  copy: PageDigests,
  progress: ReadProgress,
): Promise<number | undefined> {
  await digestFile(snapshot.databaseFd, snapshot.pageBytes, digests, progress)
  if (!snapshot.wal) {
    // a copy is kept in WAL mode, which page 1 tells
    const pageOne = readPage({ database: snapshot.databaseFd, wal: -1 }, snapshot.pageBytes, undefined, 1)
    markWalMode(pageOne)
    digests.update(1, pageOne)
  }
  if (snapshot.walFd === undefined) return undefined
  let commitsAhead = digests.state === copy.state ? 0 : undefined
  await visitFrames(
    snapshot.walFd,
    snapshot.path,
    snapshot.log,
    frame => {
      digests.update(frame.page, frame.data)
      if (frame.commitPages === 0) return
      digests.resize(frame.commitPages)
      if (commitsAhead !== undefined) commitsAhead++
      if (digests.state === copy.state) commitsAhead = 0
    },
    progress,
  )
  return commitsAhead
}

function countDifferent(a: PageDigests, b: PageDigests): number {
  const pages = Math.max(a.pages, b.pages)
  let different = 0
  for (let first = 1; first <= pages; first += 8192) {
    const count = Math.min(8192, pages - first + 1)
    const left = a.read(first, count)
    const right = b.read(first, count)
    for (let i = 0; i < count; i++) {
      if (left.compare(right, i * 8, i * 8 + 8, i * 8, i * 8 + 8) !== 0) different++
    }
  }
  return different
}

function sizeOf(path: string): number {
  return statSync(path, { throwIfNoEntry: false })?.size ?? 0
}

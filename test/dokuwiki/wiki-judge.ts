/**
 * Reads the data directory of a DokuWiki and says where its parts do not agree. A save writes, one after the other: the
 * page, its revision in the attic, a line in the page's change log, one in the log of recent changes, the metadata.
 */
import * as fs from 'node:fs'
import { join } from 'node:path'
import { gunzipSync } from 'node:zlib'

export interface WikiFinding {
  readonly pages: number
  readonly revisions: number
  /** What does not agree, a sentence each. Empty: the wiki is whole. */
  readonly tears: readonly string[]
}

export function judgeWiki(data: string): WikiFinding {
  const tears: string[] = []
  const pages = new Set(filesBelow(join(data, 'pages'), '.txt'))
  const attic = new Set(filesBelow(join(data, 'attic'), '.txt.gz'))
  const logs = filesBelow(join(data, 'meta'), '.changes').filter(name => !name.startsWith('_'))
  const recent = new Set(readLines(join(data, 'meta/_dokuwiki.changes'), tears))
  let revisions = 0
  for (const page of logs) {
    const lines = readLines(join(data, `meta/${page}.changes`), tears)
    revisions += lines.length
    let size = 0
    let last = { date: '', type: '' }
    for (const line of lines) {
      const [date = '', , type = '', id = '', , , , sizeChange = ''] = line.split('\t')
      if (id.replaceAll(':', '/') !== page) tears.push(`${page}.changes has a line of ${id}`)
      if (!recent.delete(line)) tears.push(`${page}: its change of ${date} is not among the recent changes`)
      if (!attic.delete(`${page}.${date}`)) tears.push(`${page}: its revision ${date} is not in the attic`)
      size += Number(sizeChange)
      last = { date, type }
    }
    const there = pages.delete(page)
    if (last.type === 'D') {
      if (there) tears.push(`${page} is there, its change log ends with a deletion`)
    } else if (!there) {
      tears.push(`${page} is missing, and was not deleted`)
    } else {
      tears.push(...judgePage(data, page, last.date, size))
    }
  }
  for (const page of pages) tears.push(`${page} has no change log`)
  for (const revision of attic) tears.push(`the revision ${revision} is in no change log`)
  for (const line of recent) tears.push(`the recent change '${line}' is in no change log of a page`)
  for (const entry of fs.readdirSync(join(data, 'locks'), { withFileTypes: true })) {
    if (entry.isDirectory()) tears.push(`a save was under way: locks/${entry.name}`)
  }
  return { pages: logs.length, revisions, tears }
}

/** The newest revision is the page's time in seconds, its text the page's, and all changes add up to its size. */
function judgePage(data: string, page: string, date: string, size: number): string[] {
  const tears: string[] = []
  const path = join(data, `pages/${page}.txt`)
  const text = fs.readFileSync(path)
  const modified = Math.floor(fs.statSync(path).mtimeMs / 1_000)
  if (String(modified) !== date) tears.push(`${page} is of ${modified}, its newest change of ${date}`)
  if (text.length !== size) tears.push(`${page} has ${text.length} bytes, its changes add up to ${size}`)
  const revision = join(data, `attic/${page}.${date}.txt.gz`)
  try {
    if (!gunzipSync(fs.readFileSync(revision)).equals(text)) tears.push(`${page} is not its newest revision`)
  } catch (error) {
    tears.push(`${page}: revision ${date} can't be read: ${(error as Error).message}`)
  }
  return tears
}

/** Names below a directory, without their ending. */
function filesBelow(directory: string, ending: string): string[] {
  return fs
    .readdirSync(directory, { recursive: true, encoding: 'utf8' })
    .filter(name => name.endsWith(ending))
    .map(name => name.slice(0, -ending.length))
}

function readLines(path: string, tears: string[]): string[] {
  if (!fs.existsSync(path)) return []
  const lines = fs.readFileSync(path, 'utf8').split('\n')
  if (lines.pop() !== '') tears.push(`${path} ends within a line`)
  return lines
}

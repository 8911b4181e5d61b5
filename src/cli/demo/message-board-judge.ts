/** Reads a message board as somebody who restored it would, and says where its parts do not agree. */
import * as fs from 'node:fs'
import { join } from 'node:path'
import { digestOf, type LoggedPost, logName, pageName, topicName } from './message-board.ts'

export interface BoardFinding {
  /** Posts in the logs. */
  readonly posts: number
  readonly topics: number
  readonly pages: number
  /** What does not agree, a sentence each. Empty: the board is whole. */
  readonly tears: readonly string[]
}

interface Page {
  readonly whole: boolean
  readonly posts: ReadonlyMap<number, { readonly author: string; readonly digest: string }>
}

export function judgeBoard(directory: string): BoardFinding {
  const tears: string[] = []
  const logged = readLogs(directory, tears)
  const topics = list(join(directory, 'messages')).map(Number)
  const counted = new Map<number, number>()
  let pages = 0
  const seen = new Set<number>()
  for (const topic of topics) {
    for (const name of list(join(directory, 'messages', String(topic)))) {
      if (!name.endsWith('.html')) continue
      pages++
      const number = Number.parseInt(name, 10)
      const path = pageName(topic, number)
      const page = readPage(join(directory, path))
      if (!page.whole) tears.push(`${path} is not whole`)
      counted.set(topic, (counted.get(topic) ?? 0) + page.posts.size)
      for (const [post, said] of page.posts) {
        seen.add(post)
        const line = logged.get(post)
        if (line === undefined) tears.push(`post ${post} is on ${path}, and in no log`)
        else if (line.topic !== topic || line.page !== number) {
          tears.push(`post ${post} is on ${path}, the log says ${pageName(line.topic, line.page)}`)
        } else if (line.digest !== said.digest || line.author !== said.author) {
          tears.push(`post ${post} on ${path} has another text or author than the log says`)
        }
      }
    }
  }
  for (const { number, topic, page } of logged.values()) {
    if (!seen.has(number)) {
      tears.push(`post ${number} is in ${logName(number)}, and not on ${pageName(topic, page)}`)
    }
  }
  for (const topic of topics) tears.push(...judgeTopic(directory, topic, counted.get(topic) ?? 0))
  return { posts: logged.size, topics: topics.length, pages, tears }
}

/** Every line of every log; the numbers must go from 1 to the last without a gap. */
function readLogs(directory: string, tears: string[]): ReadonlyMap<number, LoggedPost> {
  const logged = new Map<number, LoggedPost>()
  let last = 0
  for (const name of list(join(directory, 'logs')).sort()) {
    const lines = fs.readFileSync(join(directory, 'logs', name), 'utf8').split('\n')
    if (lines.pop() !== '') tears.push(`logs/${name} ends within a line`)
    for (const line of lines) {
      const [number = 0, topic = 0, page = 0] = line.split('\t', 3).map(Number)
      const [author = '', digest = ''] = line.split('\t').slice(3)
      if (logName(number) !== `logs/${name}`) tears.push(`logs/${name} has post ${number}, of another log`)
      if (number !== last + 1) tears.push(`logs/${name}: post ${number} follows post ${last}`)
      last = number
      logged.set(number, { number, topic, page, author, digest })
    }
  }
  return logged
}

function readPage(path: string): Page {
  const html = fs.readFileSync(path, 'utf8')
  const posts = new Map<number, { author: string; digest: string }>()
  const pattern = /<!-- post (\d+) -->\n<b>(.*?)<\/b> <p>(.*?)<\/p>\n<!-- \/post -->\n/g
  for (const [, number, author = '', text = ''] of html.matchAll(pattern)) {
    posts.set(Number(number), { author, digest: digestOf(text) })
  }
  const begun = html.match(/<!-- post /g)?.length ?? 0
  return { whole: html.startsWith('<html>') && html.endsWith('</html>\n') && begun === posts.size, posts }
}

function judgeTopic(directory: string, topic: number, onPages: number): string[] {
  const path = topicName(topic)
  let text: string
  try {
    text = fs.readFileSync(join(directory, path), 'utf8')
  } catch {
    return [`${path} is missing`]
  }
  const count = /^posts (\d+)\nlast \d+\n$/.exec(text)?.[1]
  if (count === undefined) return [`${path} is not whole`]
  return Number(count) === onPages ? [] : [`${path} says ${count} posts, its pages have ${onPages}`]
}

function list(directory: string): string[] {
  return fs.readdirSync(directory)
}

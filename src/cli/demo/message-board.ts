/**
 * A bulletin board of the Discus kind, as the demo and the tests run it: static message pages, a directory a topic, and
 * posting logs beside them. They must agree: a post stands in the log, on its page, and is counted by its topic.
 *
 *   logs/posting-0001.log       a line a post: number, topic, page, author, CRC-32 of the text; 2,000 posts a log
 *   messages/12/3.html          the third page of topic 12; 20 posts a page
 *   messages/12/topic.txt       how many posts the topic has
 *
 * A post takes these steps in this order, none of them synced, as such programs do it; somebody who copies the tree
 * meanwhile gets one without the others. Pages of even topics get a new file under their name, those of odd ones are
 * written in place.
 */
import * as fs from 'node:fs'
import { rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { crc32 } from 'node:zlib'

export const postsPerLog = 2_000
export const postsPerPage = 20
const postsPerTopicMax = 60

export interface Post {
  readonly number: number
  readonly topic: number
  readonly page: number
  readonly author: string
}

export interface LoggedPost extends Post {
  /** CRC-32 of the text, in hexadecimal. */
  readonly digest: string
}

export function logName(number: number): string {
  return `logs/posting-${String(Math.ceil(number / postsPerLog)).padStart(4, '0')}.log`
}

export function pageName(topic: number, page: number): string {
  return `messages/${topic}/${page}.html`
}

export function topicName(topic: number): string {
  return `messages/${topic}/topic.txt`
}

export function digestOf(text: string): string {
  return crc32(text).toString(16).padStart(8, '0')
}

/** Every post says something else, at another length, and the same each time it is written down. */
export function textOf(number: number): string {
  return `Post ${number} says: ${`${number * 7_919} `.repeat(4 + ((number * 31) % 40))}`.trimEnd()
}

export function renderLogLine({ number, topic, page, author }: Post): string {
  return `${number}\t${topic}\t${page}\t${author}\t${digestOf(textOf(number))}\n`
}

export function renderPage(topic: number, page: number, posts: readonly Post[]): string {
  const messages = posts.map(
    ({ number, author }) =>
      `<!-- post ${number} -->\n<b>${author}</b> <p>${textOf(number)}</p>\n<!-- /post -->\n`,
  )
  return `<html><head><title>Topic ${topic}, page ${page}</title></head><body>\n${messages.join('')}</body></html>\n`
}

export function renderTopic(posts: number, last: number): string {
  return `posts ${posts}\nlast ${last}\n`
}

interface Topic {
  readonly number: number
  posts: number
  readonly lastPage: Post[]
}

/** Writes a board. Posts to different topics may be under way at the same time. */
export class MessageBoard {
  readonly #directory: string
  #posts = 0
  #topics = 0

  /** Begins a new board in a directory that is empty. */
  constructor(directory: string) {
    this.#directory = directory
    fs.mkdirSync(join(directory, 'logs'))
    fs.mkdirSync(join(directory, 'messages'))
  }

  /** One who writes here, to topics of his own. */
  poster(author: string): Poster {
    return new Poster(this, author)
  }

  newTopic(): Topic {
    const topic = { number: ++this.#topics, posts: 0, lastPage: [] }
    fs.mkdirSync(join(this.#directory, `messages/${topic.number}`))
    return topic
  }

  async post(topic: Topic, author: string): Promise<void> {
    const page = 1 + Math.floor(topic.posts / postsPerPage)
    if (topic.lastPage.length === postsPerPage) topic.lastPage.length = 0
    const post = { number: ++this.#posts, topic: topic.number, page, author }
    topic.posts++
    topic.lastPage.push(post)
    fs.appendFileSync(join(this.#directory, logName(post.number)), renderLogLine(post))
    const path = join(this.#directory, pageName(topic.number, page))
    const html = renderPage(topic.number, page, topic.lastPage)
    if (topic.number % 2 === 0) {
      await writeFile(`${path}.new`, html)
      await rename(`${path}.new`, path)
    } else {
      await writeFile(path, html)
    }
    const counts = renderTopic(topic.posts, post.number)
    await writeFile(join(this.#directory, topicName(topic.number)), counts)
  }

  /** As many posts as a board has that is some years old, written at once: whole pages, whole topics. */
  prefill(posts: number): void {
    const author = 'founder'
    while (this.#posts < posts) {
      const topic = this.newTopic()
      const first = this.#posts + 1
      const count = Math.min(postsPerTopicMax, posts - this.#posts)
      const all = Array.from({ length: count }, (_, i) => {
        const page = 1 + Math.floor(i / postsPerPage)
        return { number: first + i, topic: topic.number, page, author }
      })
      this.#posts += count
      for (const post of all)
        fs.appendFileSync(join(this.#directory, logName(post.number)), renderLogLine(post))
      for (const [page, posts] of Object.entries(Object.groupBy(all, post => post.page))) {
        const html = renderPage(topic.number, Number(page), posts ?? [])
        fs.writeFileSync(join(this.#directory, pageName(topic.number, Number(page))), html)
      }
      fs.writeFileSync(join(this.#directory, topicName(topic.number)), renderTopic(count, this.#posts))
    }
  }
}

const topicsRemembered = 10

/** Goes on with a topic, comes back to an older one now and then, and begins a new one when it is long. */
export class Poster {
  readonly #board: MessageBoard
  readonly #author: string
  #topics: Topic[] = []
  #posts = 0

  constructor(board: MessageBoard, author: string) {
    this.#board = board
    this.#author = author
  }

  async post(): Promise<void> {
    const back = this.#posts++ % 8 === 7 ? this.#posts % this.#topics.length : this.#topics.length - 1
    let topic = this.#topics[back]
    if (topic === undefined || topic.posts === postsPerTopicMax) {
      topic = this.#board.newTopic()
      this.#topics = [...this.#topics.slice(1 - topicsRemembered), topic]
    }
    await this.#board.post(topic, this.#author)
  }
}

/** People who edit a wiki at the same time, as fast as it answers, and what each knows of what it saved. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { WikiServer } from './wiki.ts'

/** A revision of DokuWiki is a second: a page is not saved twice in one. */
const pagePauseMs = 1_100
const pagesPerEditor = 500

export interface Save {
  readonly page: string
  /** Empty: the page was deleted. */
  readonly text: string
  readonly startedMs: number
  readonly endedMs: number
}

export class WikiEditors {
  readonly #wiki: WikiServer
  readonly #editing: Promise<void>[]
  #stopping = false
  readonly saves: Save[] = []
  /** Saves that the wiki refused. */
  readonly refused: string[] = []

  constructor(wiki: WikiServer, editors: number) {
    this.#wiki = wiki
    this.#editing = Array.from({ length: editors }, (_, editor) => this.#edit(`editor${editor + 1}`))
  }

  async stop(): Promise<void> {
    this.#stopping = true
    await Promise.all(this.#editing)
  }

  /** The longest that a save took. */
  get longestMs(): number {
    return Math.max(...this.saves.map(({ startedMs, endedMs }) => endedMs - startedMs))
  }

  /** What each page had at least (saved before a moment), and at most (begun before a later moment). */
  texts(endedBeforeMs: number, startedBeforeMs: number): Map<string, { readonly possible: Set<string> }> {
    const pages = new Map<string, { possible: Set<string> }>()
    for (const { page, text, startedMs, endedMs } of this.saves) {
      const known = pages.get(page) ?? { possible: new Set(['']) }
      if (endedMs < endedBeforeMs) known.possible = new Set([text])
      else if (startedMs < startedBeforeMs) known.possible.add(text)
      pages.set(page, known)
    }
    return pages
  }

  async #edit(name: string): Promise<void> {
    const savedMs = new Map<string, number>()
    for (let number = 0; !this.#stopping; number++) {
      const page = `${name}:page${number % pagesPerEditor}`
      const pauseMs = (savedMs.get(page) ?? 0) + pagePauseMs - performance.now()
      if (pauseMs > 0 && savedMs.has(page)) await sleep(pauseMs)
      const text =
        number % 13 === 12 ? '' : `${page} ${number}\n${'word '.repeat(1 + ((number * 37) % 300))}end`
      if (text === '' && !savedMs.has(page)) continue
      const startedMs = performance.now()
      if (await this.#wiki.save(page, text)) {
        this.saves.push({ page, text, startedMs, endedMs: performance.now() })
      } else {
        this.refused.push(page)
      }
      savedMs.set(page, performance.now())
    }
  }
}

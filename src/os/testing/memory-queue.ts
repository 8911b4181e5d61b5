/**
 * One direction of something in memory: items in order, and whoever writes more than may be under way waits. Deterministic:
 * nothing waits for anything but the two sides.
 */
export interface MemoryQueueOptions<Item> {
  /** Written and not read yet, by `sizeOf`: whoever goes beyond waits. */
  readonly underWayMax: number
  sizeOf(item: Item): number
  /** What is being written to, for messages: 'stream', say. */
  readonly what: string
}

export class MemoryQueue<Item> {
  readonly #options: MemoryQueueOptions<Item>
  readonly #items: Item[] = []
  #underWay = 0
  #ended = false
  /** Nobody reads any more. */
  #abandoned = false
  #broken: Error | undefined
  #waiting: (() => void)[] = []

  constructor(options: MemoryQueueOptions<Item>) {
    this.#options = options
  }

  async write(item: Item): Promise<void> {
    this.#checkWritable()
    const size = this.#options.sizeOf(item)
    if (size > 0) {
      this.#items.push(item)
      this.#underWay += size
      this.#changed()
    }
    while (this.#underWay > this.#options.underWayMax) {
      await this.#change()
      this.#checkWritable()
    }
  }

  async *read(): AsyncGenerator<Item> {
    for (;;) {
      if (this.#broken !== undefined) throw this.#broken
      if (this.#abandoned) return
      const item = this.#items.shift()
      if (item !== undefined) {
        this.#underWay -= this.#options.sizeOf(item)
        this.#changed()
        yield item
      } else if (this.#ended) return
      else await this.#change()
    }
  }

  end(): void {
    this.#ended = true
    this.#changed()
  }

  abandon(): void {
    this.#abandoned = true
    this.#items.length = 0
    this.#changed()
  }

  /** What is under way is lost. */
  break(error: Error): void {
    this.#broken ??= error
    this.#items.length = 0
    this.#changed()
  }

  #checkWritable(): void {
    if (this.#broken !== undefined) throw this.#broken
    if (this.#ended) throw new Error(`the ${this.#options.what} is closed`)
    if (this.#abandoned) throw new Error('the other side has closed the connection')
  }

  #change(): Promise<void> {
    return new Promise(resolve => {
      this.#waiting.push(resolve)
    })
  }

  #changed(): void {
    const waiting = this.#waiting
    this.#waiting = []
    for (const wake of waiting) wake()
  }
}

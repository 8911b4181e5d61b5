import { formatBytes, formatDuration } from './format.ts'

/** Bytes moved, rate, and time left when the total is known. */
export class RateMeter {
  readonly #windowMs = 5_000
  #samples: { readonly timeMs: number; readonly bytes: number }[] = []

  /** A line for what has moved until `timeMs`. */
  line(timeMs: number, bytes: number, totalBytes: number | undefined): string {
    this.#samples.push({ timeMs, bytes })
    while (this.#samples.length > 2 && timeMs - (this.#samples[0]?.timeMs ?? timeMs) > this.#windowMs) {
      this.#samples.shift()
    }
    const first = this.#samples[0] ?? { timeMs, bytes }
    const elapsedMs = timeMs - first.timeMs
    const perMs = elapsedMs > 0 ? (bytes - first.bytes) / elapsedMs : 0
    const parts = [totalBytes === undefined ? formatBytes(bytes) : ofTotal(bytes, totalBytes)]
    if (perMs > 0) parts.push(`${formatBytes(Math.round(perMs * 1_000))}/s`)
    if (perMs > 0 && totalBytes !== undefined && totalBytes > bytes) {
      parts.push(`${formatDuration((totalBytes - bytes) / perMs)} left`)
    }
    return parts.join(', ')
  }
}

function ofTotal(bytes: number, totalBytes: number): string {
  const percent = totalBytes === 0 ? 100 : Math.floor((bytes / totalBytes) * 100)
  return `${formatBytes(bytes)} of ${formatBytes(totalBytes)} (${percent} %)`
}

/** One line that is written over, on a terminal; nothing anywhere else. */
export class ProgressLine {
  readonly #stream: NodeJS.WriteStream
  readonly #enabled: boolean
  #shown = false

  constructor(stream: NodeJS.WriteStream, wanted: boolean) {
    this.#stream = stream
    this.#enabled = wanted && stream.isTTY === true
  }

  show(text: string): void {
    if (!this.#enabled) return
    const columns = this.#stream.columns > 0 ? this.#stream.columns : 80
    this.#stream.write(`\r${text.slice(0, columns - 1)}\x1b[K`)
    this.#shown = true
  }

  /** Makes room for another line. */
  clear(): void {
    if (!this.#shown) return
    this.#stream.write('\r\x1b[K')
    this.#shown = false
  }
}

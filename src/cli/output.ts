import { styleText } from 'node:util'
import { systemClock } from '../os/clock.ts'
import { ProgressLine, RateMeter } from './progress-line.ts'

export interface OutputOptions {
  readonly json?: boolean
  readonly quiet?: boolean
}

const progressIntervalMs = 100

export type Style = 'bold' | 'dim' | 'green' | 'red' | 'yellow'

/**
 * What a command says: results to stdout, warnings and the progress line to stderr. With `--json` only objects, one a
 * line; with `--quiet` nothing but warnings.
 */
export class Output {
  readonly json: boolean
  readonly #quiet: boolean
  readonly #progress: ProgressLine
  readonly #meter = new RateMeter()
  #progressMs = 0

  constructor(options: OutputOptions) {
    this.json = options.json ?? false
    this.#quiet = options.quiet ?? false
    this.#progress = new ProgressLine(process.stderr, !this.json && !this.#quiet)
  }

  say(text: string): void {
    if (this.json || this.#quiet) return
    this.#progress.clear()
    process.stdout.write(`${text}\n`)
  }

  /** Heard also with `--quiet`. */
  warn(text: string): void {
    if (this.json) return
    this.#progress.clear()
    process.stderr.write(`hotspare: ${text}\n`)
  }

  /** What was proved, and what was refuted. */
  findings(findings: readonly { readonly ok: boolean; readonly what: string }[]): void {
    for (const { ok, what } of findings) {
      if (ok) this.say(`${styled('green', 'ok')}    ${what}`)
      else this.warn(`${styled('red', 'FAILED')} ${what}`)
    }
  }

  object(value: object): void {
    if (this.json) process.stdout.write(`${JSON.stringify(value)}\n`)
  }

  progress(bytes: number, totalBytes: number | undefined, more = ''): void {
    const nowMs = systemClock.nowMs()
    if (nowMs - this.#progressMs < progressIntervalMs) return
    this.#progressMs = nowMs
    this.#progress.show(this.#meter.line(nowMs, bytes, totalBytes) + more)
  }

  end(): void {
    this.#progress.clear()
  }
}

/** Styled for stdout, unless it is no terminal or NO_COLOR is set. */
export function styled(style: Style, text: string): string {
  return styleText(style, text, { stream: process.stdout })
}

import { exitInterrupted } from './failure.ts'

/**
 * The wish to end: SIGINT, SIGTERM or SIGHUP, or that nobody reads the output any more. A second signal ends at once,
 * which harms no more than SIGKILL does.
 */
export class Interruption {
  readonly #controller = new AbortController()
  #outputClosed = false

  constructor() {
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
      process.on(signal, () => {
        if (this.#controller.signal.aborted) process.exit(exitInterrupted)
        this.#controller.abort()
      })
    }
    for (const stream of [process.stdout, process.stderr]) {
      stream.on('error', error => {
        if ((error as NodeJS.ErrnoException).code !== 'EPIPE') throw error
        this.#outputClosed = true
        this.#controller.abort()
      })
    }
  }

  get signal(): AbortSignal {
    return this.#controller.signal
  }

  /** The reader of the output has gone, as in `hotspare ... | head -1`. */
  get outputClosed(): boolean {
    return this.#outputClosed
  }
}

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'

/** '.ts' in a clone, '.js' in what is published. */
const extension = import.meta.url.slice(import.meta.url.lastIndexOf('.'))

export interface Exit {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
  readonly stderr: string
}

/** A process of the demo that tells of itself in lines of JSON. */
export class Child {
  readonly #process: ChildProcess
  readonly #exit: Promise<Exit>
  #exited: Exit | undefined
  readonly #waiting = new Set<() => void>()

  /** `script` without its ending, from this folder. `onLine` gets each object. */
  constructor(
    script: string,
    args: readonly string[],
    onLine: (line: Record<string, unknown>) => void,
    environment: Readonly<Record<string, string>> = {},
  ) {
    const path = fileURLToPath(new URL(script + extension, import.meta.url))
    const options = ['--disable-warning=ExperimentalWarning', path, ...args]
    const env = { ...process.env, ...environment }
    this.#process = spawn(process.execPath, options, { stdio: ['ignore', 'pipe', 'pipe'], env })
    let stderr = ''
    this.#process.stderr?.on('data', data => {
      stderr = (stderr + data).slice(-4_096)
    })
    const lines = createInterface({ input: this.#process.stdout! })
    lines.on('line', line => {
      onLine(JSON.parse(line) as Record<string, unknown>)
      this.#wake()
    })
    this.#exit = once(this.#process, 'close').then(([code, signal]) => {
      this.#exited = { code, signal, stderr: stderr.trim() }
      this.#wake()
      return this.#exited
    })
  }

  get pid(): number | undefined {
    return this.#process.pid
  }

  get exited(): Exit | undefined {
    return this.#exited
  }

  /** Resolves when it has ended by itself or otherwise. */
  get exit(): Promise<Exit> {
    return this.#exit
  }

  kill(signal: NodeJS.Signals): void {
    this.#process.kill(signal)
  }

  async end(signal: NodeJS.Signals): Promise<Exit> {
    this.kill(signal)
    return this.#exit
  }

  /** Resolves when `condition` holds after some line; rejects when the process ends or the signal aborts before. */
  async until(condition: () => boolean, what: string, signal: AbortSignal): Promise<void> {
    while (!condition()) {
      if (this.#exited !== undefined) throw new Error(`ended (${describeExit(this.#exited)}) before ${what}`)
      signal.throwIfAborted()
      await new Promise<void>(resolve => {
        const wake = () => {
          this.#waiting.delete(wake)
          signal.removeEventListener('abort', wake)
          resolve()
        }
        this.#waiting.add(wake)
        signal.addEventListener('abort', wake)
      })
    }
  }

  #wake(): void {
    for (const wake of [...this.#waiting]) wake()
  }
}

export function describeExit(exit: Exit): string {
  const how = exit.signal ?? `status ${exit.code}`
  return exit.stderr === '' ? how : `${how}: ${exit.stderr}`
}

/**
 * The engine's own check of a database, in a process of its own: it takes as long as the database is large, and within
 * a process nothing could end it.
 *
 * Invariant: after `begin` the check is of the commit that was the newest then. Nothing is written, so it may be killed
 * at any moment.
 */
import { type ChildProcessByStdio, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import type { Readable, Writable } from 'node:stream'
import { fileURLToPath } from 'node:url'
import type { Companion } from './database-snapshot.ts'

/** What the process is asked for, a line each; it answers each with a line of JSON. */
export type IntegrityRequest = 'begin' | 'end' | 'check'
export type IntegrityAnswer =
  | { readonly messages: readonly string[] }
  | { readonly error: { readonly message: string; readonly code?: string; readonly errcode?: number } }

interface Waiting {
  resolve(messages: readonly string[]): void
  reject(error: unknown): void
}

export class IntegrityProcess implements Companion {
  readonly #child: ChildProcessByStdio<Writable, Readable, null>
  readonly #signal: AbortSignal
  readonly #abort = () => this.#child.kill('SIGKILL')
  #waiting: Waiting | undefined
  #failure: unknown

  /** Ends with the signal, whatever it is at. */
  constructor(path: string, signal: AbortSignal) {
    const script = new URL(`./integrity-check${import.meta.url.slice(-3)}`, import.meta.url)
    this.#child = spawn(process.execPath, [fileURLToPath(script), path], {
      stdio: ['pipe', 'pipe', 'inherit'],
    })
    this.#signal = signal
    // that it cannot be written to is told by its end
    this.#child.stdin.on('error', () => {})
    this.#child.on('error', error => this.#fail(error))
    this.#child.on('close', (status, name) => this.#fail(new Error(`it ended with ${name ?? status}`)))
    createInterface(this.#child.stdout).on('line', line => this.#answer(JSON.parse(line) as IntegrityAnswer))
    signal.addEventListener('abort', this.#abort)
    if (signal.aborted) this.#abort()
  }

  async begin(): Promise<void> {
    await this.#ask('begin')
  }

  async end(): Promise<void> {
    await this.#ask('end')
  }

  /** What the engine says of the commit that is held: 'ok', or faults. */
  check(): Promise<readonly string[]> {
    return this.#ask('check')
  }

  /** Resolves when it has ended, and its locks are gone. */
  async close(): Promise<void> {
    this.#signal.removeEventListener('abort', this.#abort)
    const { pid, exitCode, signalCode } = this.#child
    if (pid === undefined || exitCode !== null || signalCode !== null) return
    this.#child.kill('SIGKILL')
    await once(this.#child, 'exit')
  }

  #ask(request: IntegrityRequest): Promise<readonly string[]> {
    return new Promise((resolve, reject) => {
      if (this.#failure !== undefined) return reject(this.#failure)
      this.#waiting = { resolve, reject }
      this.#child.stdin.write(`${request}\n`)
    })
  }

  #answer(answer: IntegrityAnswer): void {
    const waiting = this.#waiting
    this.#waiting = undefined
    if ('messages' in answer) waiting?.resolve(answer.messages)
    else waiting?.reject(Object.assign(new Error(answer.error.message), answer.error))
  }

  #fail(error: unknown): void {
    this.#failure ??= this.#signal.aborted ? this.#signal.reason : error
    this.#waiting?.reject(this.#failure)
    this.#waiting = undefined
  }
}

/** Runs the command as a user would: a process of its own, judged by what it prints and how it ends. */
import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { type ErrorCode, errorCodes } from '../../src/os/errors.ts'

export const main = join(import.meta.dirname, '../../src/cli/main.ts')
const waitMsMax = 20_000

export interface Ended {
  readonly exit: number | null
  readonly signal: NodeJS.Signals | null
  readonly stdout: string
  readonly stderr: string
}

export interface Line {
  readonly event?: string
  readonly code?: string
  readonly [name: string]: unknown
}

export class Run {
  readonly process: ChildProcess
  readonly #ended: Promise<Ended>
  #stdout = ''
  #stderr = ''
  #wake: (() => void)[] = []
  #over = false
  readonly #waitMsMax: number

  constructor(command: string, args: readonly string[], waitMs = waitMsMax) {
    this.#waitMsMax = waitMs
    this.process = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'] })
    this.process.stdout?.on('data', data => {
      this.#stdout += data
      this.#wakeAll()
    })
    this.process.stderr?.on('data', data => {
      this.#stderr += data
      this.#wakeAll()
    })
    this.#ended = once(this.process, 'close').then(([exit, signal]) => {
      this.#over = true
      this.#wakeAll()
      return { exit, signal, stdout: this.#stdout, stderr: this.#stderr }
    })
  }

  get lines(): Line[] {
    const whole = this.#stdout.slice(0, this.#stdout.lastIndexOf('\n') + 1)
    return whole
      .split('\n')
      .filter(line => line !== '')
      .map(line => JSON.parse(line) as Line)
  }

  /** The first line that fits, now or later. */
  async line(fits: (line: Line) => boolean, what: string): Promise<Line> {
    const deadline = performance.now() + this.#waitMsMax
    for (;;) {
      const found = this.lines.find(fits)
      if (found !== undefined) return found
      const said = `${this.#stdout}${this.#stderr}`
      assert.equal(this.#over, false, `ended before ${what}:\n${said}`)
      const left = deadline - performance.now()
      assert.ok(left > 0, `no ${what} within ${this.#waitMsMax} ms:\n${said}`)
      await new Promise<void>(resolve => {
        const timer = setTimeout(resolve, left)
        this.#wake.push(() => {
          clearTimeout(timer)
          resolve()
        })
      })
    }
  }

  event(name: string, code?: string): Promise<Line> {
    const fits = (line: Line) => line.event === name && (code === undefined || line.code === code)
    return this.line(fits, `event '${name}${code === undefined ? '' : ` ${code}`}'`)
  }

  /** With a signal: sends it first. */
  async end(signal?: NodeJS.Signals): Promise<Ended> {
    if (signal !== undefined) this.process.kill(signal)
    const timer = setTimeout(() => this.process.kill('SIGKILL'), this.#waitMsMax)
    const ended = await this.#ended
    clearTimeout(timer)
    assert.notEqual(
      ended.signal === 'SIGKILL' && signal !== 'SIGKILL',
      true,
      `hung:\n${ended.stdout}${ended.stderr}`,
    )
    return ended
  }

  #wakeAll(): void {
    const waiting = this.#wake
    this.#wake = []
    for (const wake of waiting) wake()
  }
}

const started = new Set<Run>()

export function start(...args: string[]): Run {
  const run = new Run(process.execPath, [main, ...args])
  started.add(run)
  return run
}

/** Kills what a failed test left running. */
export function killStarted(): void {
  for (const run of started) run.process.kill('SIGKILL')
  started.clear()
}

export function hotspare(...args: string[]): Promise<Ended> {
  return start(...args).end()
}

/** Status 0, with the one object that `--json` gives. */
export async function object(...args: string[]): Promise<Line> {
  const ended = await hotspare(...args, '--json')
  assert.equal(ended.exit, 0, ended.stderr)
  return JSON.parse(ended.stdout) as Line
}

/** It ended with this error: its status by the table, one message, no stack. */
export function assertError(ended: Ended, code: ErrorCode): void {
  assert.equal(ended.exit, errorCodes[code].exit, `${ended.stdout}${ended.stderr}`)
  const last = ended.stderr.trimEnd().split('\n').at(-1) ?? ''
  if (last.startsWith('{')) assert.equal((JSON.parse(last) as { error: Line }).error.code, code)
  else assert.match(last, new RegExp(`^hotspare: .+ \\(${code}\\)$`))
  assert.doesNotMatch(ended.stderr, /^ {4}at /m)
}

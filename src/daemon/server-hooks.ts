/** Runs the commands of a set's configuration. */
import { HotspareError } from '../os/errors.ts'
import { runCommand } from '../os/run-command.ts'
import type { ServerMessage } from '../server/server.ts'
import type { ServerHooks } from './server-config.ts'

/** At most so many messages wait for the notify command; what is beyond is counted in the next one. */
const waitingMax = 100

export async function runHook(
  hooks: ServerHooks,
  name: 'on-promote' | 'on-demote',
  environment: Readonly<Record<string, string>>,
): Promise<void> {
  const run = name === 'on-promote' ? hooks.onPromote : hooks.onDemote
  if (run === undefined) return
  const { end, output } = await runCommand({ run }, environment, AbortSignal.timeout(hooks.timeoutMs))
  if (end.kind === 'exit' && end.status === 0) return
  const how =
    end.kind === 'exit'
      ? `ended with status ${end.status}`
      : end.kind === 'signal'
        ? `was ended by ${end.signal}`
        : end.kind === 'aborted'
          ? `took longer than ${hooks.timeoutMs / 1000} s and was ended`
          : `could not be started (${end.reason})`
  throw new HotspareError(
    'hook-failed',
    `The ${name} command '${run}' ${how}. It printed: ${output || 'nothing'}`,
    {
      details: { hook: name, output },
    },
  )
}

/** Runs the notify command for one message after another; a slow or failing one holds up nothing. */
export class Notifier {
  readonly #command: string | undefined
  readonly #timeoutMs: number
  readonly #environment: Readonly<Record<string, string>>
  #waiting: ServerMessage[] = []
  #left = 0
  #running: Promise<void> | undefined
  readonly #over = new AbortController()
  readonly #onFailed: (message: string) => void

  constructor(
    hooks: ServerHooks,
    environment: Readonly<Record<string, string>>,
    onFailed: (message: string) => void,
  ) {
    this.#command = hooks.notify
    this.#timeoutMs = hooks.timeoutMs
    this.#environment = environment
    this.#onFailed = onFailed
  }

  tell(message: ServerMessage): void {
    if (this.#command === undefined || message.level === 'info') return
    if (this.#waiting.length >= waitingMax) this.#left++
    else this.#waiting.push(message)
    this.#running ??= this.#run().finally(() => {
      this.#running = undefined
    })
  }

  /** Ends the command that runs. */
  async close(): Promise<void> {
    this.#waiting = []
    this.#over.abort()
    await this.#running
  }

  async #run(): Promise<void> {
    for (let next = this.#waiting.shift(); next !== undefined; next = this.#waiting.shift()) {
      const left = this.#left
      this.#left = 0
      const { end, output } = await runCommand(
        { run: this.#command ?? '' },
        {
          ...this.#environment,
          HOTSPARE_LEVEL: next.level,
          HOTSPARE_CODE: next.code,
          HOTSPARE_MESSAGE: next.message,
          HOTSPARE_TIME: new Date(next.timeMs).toISOString(),
          HOTSPARE_LEFT_OUT: String(left),
        },
        AbortSignal.any([this.#over.signal, AbortSignal.timeout(this.#timeoutMs)]),
      )
      const failed = end.kind !== 'exit' || end.status !== 0
      if (failed && !this.#over.signal.aborted) this.#onFailed(output)
    }
  }
}

/**
 * What else is copied in the same window: a command of the user's, a dump of the application's database as a rule, that
 * runs beside the pass. What was read counts only when the command succeeded, and the window lasts until both are done.
 */
import { HotspareError } from '../os/errors.ts'
import { runCommand } from '../os/run-command.ts'
import { failureText } from './command-switch.ts'

export interface InsideCommandContext {
  readonly source: string
  readonly target: string
  onOutput(step: string, output: string): void
}

export class InsideCommand {
  readonly #stop = new AbortController()
  /** Rejects with `inside-failed`; when it was ended by `end` too. */
  readonly done: Promise<void>

  /** Starts it. */
  constructor(command: string, context: InsideCommandContext) {
    this.done = this.#run(command, context)
    this.done.catch(() => undefined)
  }

  /** What it makes does not count any more. */
  end(): void {
    this.#stop.abort()
  }

  async #run(command: string, { source, target, onOutput }: InsideCommandContext): Promise<void> {
    const environment = { HOTSPARE_SOURCE: source, HOTSPARE_TARGET: target, HOTSPARE_WINDOW: 'inside' }
    const result = await runCommand({ run: command }, environment, this.#stop.signal)
    const { end, output } = result
    if (output !== '') onOutput('inside', output)
    if (end.kind === 'exit' && end.status === 0) return
    const message = failureText('The command inside the window', { run: command }, result)
    throw new HotspareError('inside-failed', `${message} The copy is as it was.`, { details: { output } })
  }
}

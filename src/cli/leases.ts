/** What every command does at its start: leave what a mirror that was killed left in maintenance mode. */
import type { LeaseEvent } from '../daemon/lease-recovery.ts'
import { localMachine } from '../daemon/machine.ts'
import { hasLeases, stateDirectory } from '../daemon/state-directory.ts'
import { formatTime } from './format.ts'
import { Output } from './output.ts'

/** Who only asks for help or the version is not kept waiting for an application that hangs. */
const shortMsMax = 5_000
/** Who runs the next command waits for little; it is tried again by the one after that. */
const attemptsMax = 2

export class LeasePrinter {
  readonly #output: Output

  constructor(output: Output) {
    this.#output = output
  }

  print(event: LeaseEvent): void {
    switch (event.event) {
      case 'leaving':
        this.#output.warn(
          `a mirror of ${event.source} that was killed left maintenance mode on (since ${formatTime(event.sinceMs)}); leaving it now`,
        )
        break
      case 'left-late':
        this.#output.warn(`the maintenance mode of ${event.source} is left`)
        break
      case 'leave-failed':
        this.#output.warn(`${event.message} (leave-failed)`)
        break
      default:
        event satisfies never
    }
  }
}

/** Resolves when nothing is left to be left, or it could not be. Says what it does on stderr, with `--json` as objects. */
export async function leaveWhatWasLeft(argv: readonly string[], signal: AbortSignal): Promise<void> {
  if (!(await hasLeases(localMachine.storage, stateDirectory()))) return
  const { recoverLeases } = await import('../daemon/lease-recovery.ts')
  const json = argv.includes('--json')
  const short = isShort(argv)
  const printer = new LeasePrinter(new Output({}))
  await recoverLeases({
    ...localMachine,
    signal,
    attemptsMax: short ? 1 : attemptsMax,
    ...(short ? { timeoutMsMax: shortMsMax } : {}),
    onEvent: event => {
      if (json) process.stderr.write(`${JSON.stringify(event)}\n`)
      else printer.print(event)
    },
  })
}

function isShort(argv: readonly string[]): boolean {
  return argv[2] === 'help' || argv.some(word => ['--version', '--help', '-h'].includes(word))
}

/** From what was thrown to one message and an exit status. Matches on codes, never on text. */
import { CommanderError } from 'commander'
import { describeSystemError, errorCodes, HotspareError } from '../os/errors.ts'

export const exitBug = 70
/** As a shell reports what a signal ended. */
export const exitInterrupted = 130
export const exitOutputClosed = 141

export interface Failure {
  readonly exit: number
  /** Undefined: there is nothing to say. */
  readonly code?: string
  readonly message?: string
  readonly details?: Readonly<Record<string, unknown>>
  /** A fault of ours, not of the user or the machine. */
  readonly stack?: string
}

export function failureOf(thrown: unknown, interrupted: boolean): Failure {
  if (thrown instanceof CommanderError) return usageFailure(thrown)
  if (interrupted && thrown instanceof Error && thrown.name === 'AbortError') {
    return { exit: exitInterrupted, code: 'interrupted', message: 'interrupted' }
  }
  const error = describeSystemError(thrown, 'Working')
  if (error instanceof HotspareError) {
    const { code, message, details } = error
    return { exit: errorCodes[code].exit, code, message, details }
  }
  const stack = error instanceof Error ? (error.stack ?? error.message) : String(error)
  return { exit: exitBug, code: 'bug', message: stack.split('\n')[0] ?? stack, stack }
}

function usageFailure(error: CommanderError): Failure {
  if (error.exitCode === 0) return { exit: 0 }
  // commander has written the help by itself
  if (error.code === 'commander.help') return { exit: errorCodes.usage.exit }
  const said = error.message
    .trim()
    .replace(/^error: /, '')
    .replace(/\s*\n\s*/g, ' ')
  const message = `${said.replace(/\.?$/, '.')} 'hotspare help' shows how.`
  return { exit: errorCodes.usage.exit, code: 'usage', message: upperFirst(message) }
}

function upperFirst(text: string): string {
  return text.slice(0, 1).toUpperCase() + text.slice(1)
}

export function writeFailure(failure: Failure, json: boolean): void {
  const { exit, code, message, details, stack } = failure
  if (code === undefined) return
  if (json) {
    process.stderr.write(
      `${JSON.stringify({ error: { code, message, exit, details }, ...(stack === undefined ? {} : { stack }) })}\n`,
    )
  } else if (stack !== undefined) {
    process.stderr.write(
      `${stack}\nhotspare: this is a bug in hotspare. Source and copy are as after a stop. Please report the lines above.\n`,
    )
  } else {
    process.stderr.write(`hotspare: ${message} (${code})\n`)
  }
}

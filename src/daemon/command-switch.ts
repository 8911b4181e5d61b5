/** A maintenance mode that is switched by commands of the user's. */
import { HotspareError } from '../os/errors.ts'
import { type CommandResult, commandText, runCommand } from '../os/run-command.ts'
import type { Mode, ModeCommand, Sign, Verification } from './mode.ts'
import type { ModeSwitch, SwitchContext } from './mode-switch.ts'

export class CommandSwitch implements ModeSwitch {
  readonly #mode: Extract<Mode, { kind: 'commands' }>
  readonly #context: SwitchContext
  readonly verify: ModeSwitch['verify']
  readonly refresh: ModeSwitch['refresh']
  readonly leaveByHand: string

  constructor(mode: Extract<Mode, { kind: 'commands' }>, context: SwitchContext) {
    const { verify, refresh } = mode
    this.#mode = mode
    this.#context = context
    this.verify = verify === undefined ? undefined : signal => this.#verify(verify, signal)
    this.refresh =
      refresh === undefined ? undefined : signal => this.#do('refresh', refresh, 'inside', signal)
    this.leaveByHand = commandText(mode.leave)
  }

  async enter(signal: AbortSignal): Promise<'ours'> {
    await this.#do('enter', this.#mode.enter, 'before', signal)
    return 'ours'
  }

  leave(signal: AbortSignal): Promise<void> {
    return this.#do('leave', this.#mode.leave, 'inside', signal)
  }

  async #do(
    step: 'enter' | 'leave' | 'refresh',
    command: ModeCommand,
    window: 'before' | 'inside',
    signal: AbortSignal,
  ): Promise<void> {
    const result = await this.#run(step, command, window, signal)
    if (result.end.kind === 'exit' && result.end.status === 0) return
    const code = step === 'leave' ? 'leave-failed' : 'enter-failed'
    throw new HotspareError(code, failureText(`The command to ${step}`, command, result), {
      details: { output: result.output },
    })
  }

  async #verify(verification: Verification, signal: AbortSignal): Promise<boolean> {
    const result = await this.#run('verify', verification, 'inside', signal)
    const on = verification.on ?? { exit: 0 }
    if (shows(result, on)) return true
    const { end } = result
    // 126 and 127 are the shell's own: the command could not be run
    const ran = end.kind === 'exit' && end.status !== 126 && end.status !== 127
    if (verification.off === undefined ? ran : shows(result, verification.off)) return false
    throw new HotspareError('mode-unknown', failureText('The command to verify', verification, result), {
      details: { output: result.output },
    })
  }

  async #run(
    step: string,
    command: ModeCommand,
    window: 'before' | 'inside',
    signal: AbortSignal,
  ): Promise<CommandResult> {
    const { source, target } = this.#context
    const environment = { HOTSPARE_SOURCE: source, HOTSPARE_TARGET: target, HOTSPARE_WINDOW: window }
    const puts = step === 'enter' || step === 'refresh'
    const onStarted = puts ? this.#context.onStarted : undefined
    const result = await runCommand(command, environment, signal, onStarted)
    if (result.output !== '') this.#context.onOutput(step, result.output)
    return result
  }
}

function shows({ end, output }: CommandResult, sign: Sign): boolean {
  if (end.kind !== 'exit') return false
  if ('exit' in sign) return end.status === sign.exit
  return end.status === 0 && new RegExp(sign.prints, 'm').test(output)
}

const linesShown = 5

/** How a command of the user's failed, and the last of what it said. */
export function failureText(what: string, command: ModeCommand, { end, output }: CommandResult): string {
  const how = {
    exit: end.kind === 'exit' ? `ended with status ${end.status}` : '',
    signal: end.kind === 'signal' ? `was ended by ${end.signal}` : '',
    aborted: 'took too long or was interrupted, and was ended',
    'not-started': end.kind === 'not-started' ? `could not be started (${end.reason})` : '',
  }[end.kind]
  const lines = output === '' ? [] : output.split('\n').slice(-linesShown)
  const said = lines.length === 0 ? '' : ` It said: ${lines.join(' | ')}`
  return `${what} ${how}: ${commandText(command)}.${said}`
}

/** Carries out what a mode says: the one place that enters, leaves and looks at an application's maintenance mode. */
import { HotspareError, isSystemError } from '../os/errors.ts'
import { httpCall } from '../os/http-call.ts'
import { type CommandResult, commandText, type RunningCommand, runCommand } from '../os/run-command.ts'
import { parentDirectory, readSmallFile, type Storage } from '../os/storage.ts'
import type { Mode, ModeCommand, Sign, Verification } from './mode.ts'

/**
 * Every step ends soon after its signal aborts, and has no effect any more when it has ended. Steps reject with
 * `enter-failed`, `leave-failed` or `mode-unknown`.
 */
export interface ModeSwitch {
  /** 'theirs': it is on already, by somebody else, and nothing was done. */
  enter(signal: AbortSignal): Promise<'ours' | 'theirs'>
  leave(signal: AbortSignal): Promise<void>
  /** True when it is on. */
  readonly verify: ((signal: AbortSignal) => Promise<boolean>) | undefined
  readonly refresh: ((signal: AbortSignal) => Promise<void>) | undefined
  /** For a person: what to do by hand when it could not be left. */
  readonly leaveByHand: string
}

export interface SwitchContext {
  readonly storage: Storage
  readonly source: string
  readonly target: string
  /** What a command of the user's printed; for `--verbose`. */
  onOutput(step: string, output: string): void
  /** A command that puts the mode on has started: it must be ended before the mode is left, by whomever. */
  onStarted?(running: RunningCommand): void
}

export function openSwitch(mode: Mode, context: SwitchContext): Promise<ModeSwitch> | ModeSwitch {
  switch (mode.kind) {
    case 'commands':
      return new CommandSwitch(mode, context)
    case 'flag-file':
      return new FlagFile(mode.path, mode.text, context.storage)
    case 'http':
      return openHttpSwitch(mode, context)
  }
}

class CommandSwitch implements ModeSwitch {
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

/**
 * The mode is on while the file exists. It is made only when there is none, and removed only when it holds our text,
 * so that a file which somebody else made is neither written to nor taken away.
 */
class FlagFile implements ModeSwitch {
  readonly #path: string
  readonly #text: Buffer
  readonly #storage: Storage
  readonly refresh = undefined
  readonly leaveByHand: string

  constructor(path: string, text: string, storage: Storage) {
    this.#path = path
    this.#text = Buffer.from(text.endsWith('\n') ? text : `${text}\n`)
    this.#storage = storage
    this.leaveByHand = commandText({ run: ['rm', '-f', path] })
  }

  readonly verify = async (): Promise<boolean> => {
    try {
      return (await this.#storage.stat(this.#path)) !== undefined
    } catch (error) {
      throw new HotspareError('mode-unknown', `Looking for ${this.#path}: ${message(error)}.`, {
        cause: error,
      })
    }
  }

  async enter(): Promise<'ours' | 'theirs'> {
    try {
      const file = await this.#storage.open(this.#path, 'create-new', 0o644)
      try {
        await file.write(this.#text, 0)
      } finally {
        await file.close()
      }
      // readable by the web server, whoever that is and whatever our umask
      await this.#storage.setAttributes(this.#path, { mode: 0o644 })
      return 'ours'
    } catch (error) {
      if (isSystemError(error, 'EEXIST')) return 'theirs'
      throw new HotspareError('enter-failed', `Making ${this.#path}: ${message(error)}.`, { cause: error })
    }
  }

  async leave(): Promise<void> {
    try {
      if (!(await this.#isOurs())) return
      await this.#storage.remove(this.#path)
      // a power loss must not bring it back when nothing knows of it any more
      await this.#storage.syncDirectory(parentDirectory(this.#path))
    } catch (error) {
      throw new HotspareError('leave-failed', `Removing ${this.#path}: ${message(error)}.`, { cause: error })
    }
  }

  /** All of our text, or a beginning of it: enter may have been cut short. */
  async #isOurs(): Promise<boolean> {
    const stat = await this.#storage.stat(this.#path)
    if (stat === undefined || stat.size > this.#text.length) return false
    const found = await readSmallFile(this.#storage, this.#path, this.#text.length)
    return found !== undefined && this.#text.subarray(0, found.length).equals(found)
  }
}

async function openHttpSwitch(
  mode: Extract<Mode, { kind: 'http' }>,
  context: SwitchContext,
): Promise<ModeSwitch> {
  const headers = mode.headersFile === undefined ? {} : await readHeaders(context.storage, mode.headersFile)
  const post = async (step: 'enter' | 'leave', url: string, signal: AbortSignal): Promise<void> => {
    const code = step === 'enter' ? 'enter-failed' : 'leave-failed'
    const status = await httpCall({ method: 'POST', url, headers, signal }).catch((error: unknown) => {
      throw new HotspareError(code, `POST ${url}: ${message(error)}.`, { cause: error })
    })
    if (!isSuccess(status)) throw new HotspareError(code, `POST ${url} was answered with status ${status}.`)
  }
  const { status } = mode
  return {
    async enter(signal) {
      await post('enter', mode.enter, signal)
      return 'ours'
    },
    leave: signal => post('leave', mode.leave, signal),
    verify: status === undefined ? undefined : signal => isOnByHttp(status, headers, signal),
    refresh: undefined,
    leaveByHand: `curl -X POST ${mode.headersFile === undefined ? '' : `-H @${mode.headersFile} `}${mode.leave}`,
  }
}

/** 2xx: on; another answer below 500: off. */
async function isOnByHttp(
  url: string,
  headers: Readonly<Record<string, string>>,
  signal: AbortSignal,
): Promise<boolean> {
  const status = await httpCall({ method: 'GET', url, headers, signal }).catch((error: unknown) => {
    throw new HotspareError('mode-unknown', `GET ${url}: ${message(error)}.`, { cause: error })
  })
  if (isSuccess(status)) return true
  if (status < 500) return false
  throw new HotspareError('mode-unknown', `GET ${url} was answered with status ${status}.`)
}

const isSuccess = (status: number): boolean => status >= 200 && status < 300

const headersBytesMax = 64 * 1024

/** Throws `usage` when others may read it, since what it is for is secrets. */
async function readHeaders(storage: Storage, path: string): Promise<Record<string, string>> {
  const stat = await storage.stat(path)
  const bytes = await readSmallFile(storage, path, headersBytesMax)
  if (stat === undefined || bytes === undefined) {
    throw new HotspareError('usage', `There is no ${path} to take the HTTP headers from.`)
  }
  if ((stat.mode & 0o077) !== 0) {
    throw new HotspareError('usage', `${path} may be read by others. Say 'chmod 600 ${path}' first.`)
  }
  const headers: Record<string, string> = {}
  for (const line of bytes.toString('utf8').split('\n')) {
    if (line.trim() === '') continue
    const match = /^([!#$%&'*+.^_`|~0-9A-Za-z-]+):\s*(.*?)\s*$/.exec(line)
    if (match?.[1] === undefined || match[2] === undefined) {
      // the line itself may be a secret
      throw new HotspareError('usage', `${path} has a line that is not 'Name: value'.`)
    }
    headers[match[1]] = match[2]
  }
  return headers
}

function message(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  return (error as NodeJS.ErrnoException).code ?? error.message
}

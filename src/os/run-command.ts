/**
 * Runs one command of the user's to its end, in a process group of its own, so that all of it can be ended.
 *
 * Resolves only when the command is over (or, after SIGKILL, has had `graceMs` to be over): who goes on after an abort
 * may rely on it that the command does nothing any more.
 */
import { spawn } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { userInfo } from 'node:os'

export interface Command {
  /** A text for `sh -c`, or a program with its arguments. */
  readonly run: string | readonly string[]
  readonly directory?: string | undefined
  /** Another user: by `runuser` when we are root, else by `sudo -n`. */
  readonly user?: string | undefined
}

export type CommandEnd =
  | { readonly kind: 'exit'; readonly status: number }
  | { readonly kind: 'signal'; readonly signal: string }
  | { readonly kind: 'aborted' }
  | { readonly kind: 'not-started'; readonly reason: string }

export interface CommandResult {
  readonly end: CommandEnd
  /** The last of what it printed, both streams together. */
  readonly output: string
}

/** A command that runs, so that another process can know it again. */
export interface RunningCommand {
  /** Of its first process, and of its group. */
  readonly pid: number
  /** When that started, as the kernel counts. */
  readonly startTicks: string
}

const outputBytesMax = 16 * 1024
const graceMs = 2_000
/** A service that the command left running may keep its output open; nobody waits for that. */
const outputWaitMs = 250

export async function runCommand(
  command: Command,
  environment: Readonly<Record<string, string>>,
  signal: AbortSignal,
  onStarted?: (running: RunningCommand) => void,
): Promise<CommandResult> {
  if (signal.aborted) return { end: { kind: 'aborted' }, output: '' }
  const [program = '', ...args] = commandLine(command)
  const child = spawn(program, args, {
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, ...environment },
    ...(command.directory === undefined ? {} : { cwd: command.directory }),
  })
  if (child.pid !== undefined) onStarted?.({ pid: child.pid, startTicks: startTicks(child.pid) ?? '' })
  const output = new Tail(outputBytesMax)
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (data: Buffer) => output.add(data))
  const closed = new Promise<void>(resolve => child.once('close', () => resolve()))
  const stop = new Ending(child.pid)
  signal.addEventListener('abort', stop.begin)
  try {
    const end = await Promise.race([
      new Promise<CommandEnd>(resolve => {
        child.once('error', error => resolve({ kind: 'not-started', reason: error.message }))
        child.once('exit', (status, name) =>
          resolve(status === null ? { kind: 'signal', signal: name ?? '' } : { kind: 'exit', status }),
        )
      }),
      stop.givenUp,
    ])
    if (end.kind !== 'not-started') await Promise.race([closed, after(outputWaitMs)])
    return { end: signal.aborted && stop.begun ? { kind: 'aborted' } : end, output: output.text() }
  } finally {
    signal.removeEventListener('abort', stop.begin)
    stop.done()
    child.stdout.destroy()
    child.stderr.destroy()
    child.unref()
  }
}

/** Ends a command that outlived who started it; resolves when nothing of it runs any more, or it can't be ended. */
export async function endCommand({ pid, startTicks: started }: RunningCommand): Promise<void> {
  const now = startTicks(pid)
  // another process has the number: the group has gone long ago
  if (now !== undefined && now !== started) return
  const deadlineMs = performance.now() + 2 * graceMs
  for (let name: NodeJS.Signals = 'SIGTERM'; isGroupAlive(pid); ) {
    const leftMs = deadlineMs - performance.now()
    if (leftMs <= 0) return
    if (leftMs < graceMs) name = 'SIGKILL'
    try {
      process.kill(-pid, name)
    } catch {
      return
    }
    await new Promise(resolve => setTimeout(resolve, endingPollMs))
  }
}

const endingPollMs = 20

/** Fields of /proc/PID/stat from the third on; the second is a name that may hold anything. */
function statFields(pid: number | string): string[] | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1')
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  } catch {
    return undefined
  }
}

function startTicks(pid: number): string | undefined {
  return statFields(pid)?.[19]
}

/** What has ended, and was not asked yet how, does nothing any more. */
function isGroupAlive(group: number): boolean {
  return readdirSync('/proc').some(name => {
    if (!/^\d+$/.test(name)) return false
    const fields = statFields(name)
    return fields?.[2] === String(group) && fields[0] !== 'Z' && fields[0] !== 'X'
  })
}

/** As it is really run. */
export function commandLine(command: Command): string[] {
  const plain = typeof command.run === 'string' ? ['/bin/sh', '-c', command.run] : [...command.run]
  const { user } = command
  if (user === undefined || user === userInfo().username) return plain
  return process.getuid?.() === 0
    ? ['runuser', '-u', user, '--', ...plain]
    : ['sudo', '-n', '-u', user, '--', ...plain]
}

/** For a person to paste into a shell. */
export function commandText(command: Command): string {
  const { user, directory, run } = command
  const plain =
    typeof run === 'string' && user === undefined ? run : commandLine(command).map(quote).join(' ')
  return directory === undefined ? plain : `cd ${quote(directory)} && ${plain}`
}

function quote(word: string): string {
  return /^[A-Za-z0-9_./:=@%+,-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`
}

/** Ends a process group: asks, and after a while insists. */
class Ending {
  readonly #pid: number | undefined
  #timers: NodeJS.Timeout[] = []
  #giveUp: ((end: CommandEnd) => void) | undefined
  readonly givenUp: Promise<CommandEnd>
  begun = false

  constructor(pid: number | undefined) {
    this.#pid = pid
    this.givenUp = new Promise(resolve => {
      this.#giveUp = resolve
    })
  }

  readonly begin = (): void => {
    this.begun = true
    this.#kill('SIGTERM')
    this.#timers.push(
      setTimeout(() => this.#kill('SIGKILL'), graceMs),
      // a process that even SIGKILL does not end, or that is another user's
      setTimeout(() => this.#giveUp?.({ kind: 'aborted' }), 2 * graceMs),
    )
  }

  done(): void {
    for (const timer of this.#timers) clearTimeout(timer)
    // what is left of the group after its first process has gone
    if (this.begun) this.#kill('SIGKILL')
  }

  #kill(signal: NodeJS.Signals): void {
    if (this.#pid === undefined) return
    try {
      process.kill(-this.#pid, signal)
    } catch {
      // gone already, or another user's: whoever waits for the end has a limit
    }
  }
}

class Tail {
  readonly #bytesMax: number
  #chunks: Buffer[] = []
  #bytes = 0

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax
  }

  add(chunk: Buffer): void {
    this.#chunks.push(chunk)
    this.#bytes += chunk.length
    while (this.#bytes - (this.#chunks[0]?.length ?? 0) > this.#bytesMax) {
      this.#bytes -= this.#chunks.shift()?.length ?? 0
    }
  }

  text(): string {
    return Buffer.concat(this.#chunks).subarray(-this.#bytesMax).toString('utf8').trimEnd()
  }
}

function after(ms: number): Promise<void> {
  return new Promise(resolve => {
    setTimeout(resolve, ms).unref()
  })
}

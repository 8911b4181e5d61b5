/**
 * Lets Redis judge a copy: `redis-check-aof` reads it, and a real server loads a clone of it, on a unix socket in a
 * scratch directory, with no port, no persistence of its own and nobody else's configuration. Works on a clone, since a
 * server that loads a file with an incomplete last command cuts it off.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { basename, dirname, join } from 'node:path'
import type { Clock } from '../../os/clock.ts'
import { isSystemError } from '../../os/errors.ts'
import { displayPath } from '../../stream/entry.ts'
import { type Finding, proved, refuted } from './finding.ts'
import { askRedis } from './resp.ts'

const loadTimeoutMs = 10 * 60_000
const askTimeoutMs = 5000
const outputBytesMax = 64 * 1024

/** `directory` is a clone of the copy that may be changed; `manifest` the name of its manifest. */
export async function checkRedisClone(options: {
  readonly directory: string
  readonly manifest: string
  readonly lastIncremental: string | undefined
  readonly clock: Clock
  readonly signal: AbortSignal
}): Promise<Finding[]> {
  const { directory, manifest, lastIncremental, signal } = options
  const checked = await run('redis-check-aof', [join(directory, manifest)], signal)
  const served = await serve(options)
  const findings: Finding[] = []
  if (checked === undefined) findings.push(proved('redis-check-aof is not installed: not asked'))
  else if (checked.status === 0) findings.push(proved('redis-check-aof finds all files valid'))
  else {
    const invalid = /^AOF (.+) is not valid/m.exec(checked.output)?.[1]
    const torn =
      invalid !== undefined &&
      invalid === lastIncremental &&
      /Expected to read \d+ bytes, got|Reached EOF|Unexpected end of file/i.test(checked.output)
    const size = /ok_up_to=\d+.*diff=(\d+)\s*$/m.exec(
      checked.output.split(`filename=${invalid}`)[1] ?? '',
    )?.[1]
    findings.push(
      torn
        ? proved(`redis-check-aof: only the last command is incomplete (${size} bytes, which a server drops)`)
        : refuted(`redis-check-aof: ${lastLines(checked.output)}`),
    )
  }
  findings.push(served ?? proved('redis-server is not installed: not started'))
  return findings
}

/** Starts a server on the clone and asks it; undefined when there is none to start. */
async function serve(options: {
  readonly directory: string
  readonly manifest: string
  readonly clock: Clock
  readonly signal: AbortSignal
}): Promise<Finding | undefined> {
  const { directory, manifest, clock, signal } = options
  // a path of at most 107 bytes: relative to the directory where the server runs, and through /proc for us
  const socketName = 's'
  const given = [
    ...['--port', '0', '--unixsocket', socketName, '--dir', '.', '--daemonize', 'no', '--save', ''],
    ...['--appendonly', 'yes', '--appenddirname', basename(directory), '--aof-load-truncated', 'yes'],
    ...['--appendfilename', manifest.replace(/\.manifest$/, ''), '--auto-aof-rewrite-percentage', '0'],
  ]
  const server = spawn('redis-server', given, { cwd: dirname(directory), stdio: ['ignore', 'pipe', 'pipe'] })
  const output = collectOutput(server)
  if (!(await started(server))) return undefined
  const socketPath = `/proc/${server.pid}/cwd/${socketName}`
  const deadlineMs = clock.nowMs() + loadTimeoutMs
  try {
    for (;;) {
      if (server.exitCode !== null || server.signalCode !== null)
        return refuted(`redis-server does not load the copy: ${lastLines(output())}`)
      if (clock.nowMs() > deadlineMs)
        return refuted(`redis-server has not loaded the copy in ${loadTimeoutMs} ms`)
      signal.throwIfAborted()
      const keys = await keysServed(socketPath)
      if (keys !== undefined) return proved(`a redis-server that was started on a clone serves ${keys} keys`)
      await clock.sleep(50, signal)
    }
  } finally {
    server.kill('SIGKILL')
    await exited(server)
  }
}

/** Undefined while the server is not there yet, or loads. */
async function keysServed(socketPath: string): Promise<string | undefined> {
  try {
    const ping = await askRedis(socketPath, askTimeoutMs, 'PING')
    if (ping.kind === 'error') return undefined
    const size = await askRedis(socketPath, askTimeoutMs, 'DBSIZE')
    return size.kind === 'error' ? undefined : size.text
  } catch {
    // no connection (yet): whoever asks sees by the process whether there will be one
    return undefined
  }
}

async function run(
  command: string,
  given: readonly string[],
  signal: AbortSignal,
): Promise<{ status: number | null; output: string } | undefined> {
  const child = spawn(command, given, { stdio: ['ignore', 'pipe', 'pipe'] })
  const output = collectOutput(child)
  if (!(await started(child))) return undefined
  const stop = () => child.kill('SIGKILL')
  signal.addEventListener('abort', stop)
  await exited(child)
  signal.removeEventListener('abort', stop)
  signal.throwIfAborted()
  return { status: child.exitCode, output: output() }
}

/** False when there is no such program. */
function started(child: ChildProcess): Promise<boolean> {
  return new Promise((resolve, reject) => {
    child.once('spawn', () => resolve(true))
    child.once('error', error => (isSystemError(error, 'ENOENT') ? resolve(false) : reject(error)))
  })
}

function exited(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return Promise.resolve()
  return new Promise(resolve => child.once('close', () => resolve()))
}

function collectOutput(child: ChildProcess): () => string {
  let said = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream?.on('data', (data: Buffer) => {
      said = (said + data.toString()).slice(-outputBytesMax)
    })
  }
  return () => said
}

function lastLines(output: string): string {
  return displayPath(Buffer.from(output.trim().split('\n').slice(-3).join(' | ')).toString('latin1'))
}

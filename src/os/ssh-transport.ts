/**
 * A byte stream over the standard input and output of `ssh HOST hotspare link --stdio`. ssh proves who both machines are
 * and encrypts; the command over there passes the bytes on to the server that runs there.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { SocketStream } from './socket-stream.ts'
import type { ByteStream, Transport } from './transport.ts'

/** What the command over there says first: what a login shell prints before it is passed over. */
export const stdioBanner = Buffer.from('\nhotspare link over standard input and output\n', 'latin1')
const noiseBytesMax = 64 * 1024
const errorCharactersMax = 500
const endMs = 3000

export interface SshAddress {
  readonly host: string
  readonly user?: string
  readonly port?: number
  /** Of hotspare over there; else it is looked for in the PATH. */
  readonly program: string
  /** Of the server over there; else it is looked for where `hotspare` looks. */
  readonly config?: string
}

/** `ssh://[USER@]HOST[:PORT][/PATH/TO/hotspare][?config=FILE]` */
export function parseSshAddress(address: string): SshAddress {
  const pattern =
    /^ssh:\/\/(?:([A-Za-z0-9_][A-Za-z0-9_.-]*)@)?(?:\[([0-9a-fA-F:.%]+)\]|([A-Za-z0-9_][A-Za-z0-9_.-]*))(?::(\d{1,5}))?(\/[^?\s]*)?(?:\?config=(\/\S+))?$/
  const match = pattern.exec(address)
  const host = match?.[2] ?? match?.[3]
  if (match === null || host === undefined) {
    throw new Error(
      `'${address}' is no address: ssh://[USER@]HOST[:PORT][/PATH/TO/hotspare][?config=FILE] is expected`,
    )
  }
  const [, user, , , port, path, config] = match
  return {
    host,
    ...(user !== undefined && { user }),
    ...(port !== undefined && { port: Number(port) }),
    program: path === undefined || path === '/' ? 'hotspare' : path,
    ...(config !== undefined && { config }),
  }
}

export class SshTransport implements Transport {
  readonly #command: readonly string[]

  /** `command`: ssh, and options that come before all others. */
  constructor(command: readonly string[] = ['ssh']) {
    this.#command = command
  }

  async connect(address: string, signal: AbortSignal): Promise<ByteStream> {
    signal.throwIfAborted()
    const { host, user, port, program, config } = parseSshAddress(address)
    const [ssh = 'ssh', ...options] = this.#command
    const remote = [program, 'link', '--stdio', ...(config === undefined ? [] : ['-c', config])]
    const child = spawn(
      ssh,
      [
        ...options,
        '-T',
        ...['BatchMode=yes', 'ConnectTimeout=10', 'ServerAliveInterval=10', 'ServerAliveCountMax=3'].flatMap(
          option => ['-o', option],
        ),
        ...(user === undefined ? [] : ['-l', user]),
        ...(port === undefined ? [] : ['-p', String(port)]),
        '--',
        host,
        remote.map(quoted).join(' '),
      ],
      { stdio: ['pipe', 'pipe', 'pipe'] },
    )
    const failure = new Promise<never>((_resolve, reject) => {
      let said = ''
      child.stderr.on('data', (piece: Buffer) => {
        said = (said + piece.toString('latin1')).slice(-errorCharactersMax)
      })
      child.once('error', reject)
      child.once('close', status => {
        const text = said.replace(/[^\x20-\x7e]+/g, ' ').trim()
        reject(new Error(`${ssh} ended with status ${status}${text === '' ? '' : `: ${text}`}`))
      })
    })
    // later, nobody looks any more
    failure.catch(() => {})
    try {
      await Promise.race([failure, bannered(child), aborted(signal)])
    } catch (error) {
      child.kill()
      throw error
    }
    const { stdout, stdin } = child
    if (stdout === null || stdin === null) throw new Error('ssh has no pipes')
    return new SocketStream(stdout, stdin, {
      peer: `ssh ${user === undefined ? '' : `${user}@`}${host}`,
      close() {
        stdin.end()
        setTimeout(() => child.kill(), endMs).unref()
      },
    })
  }

  listen(): Promise<never> {
    return Promise.reject(new Error('nobody can listen by ssh: the server that is called runs sshd'))
  }
}

/** Resolves when the banner has come; what comes after it is to be read yet. */
function bannered(child: ChildProcess): Promise<void> {
  return new Promise((resolve, reject) => {
    const { stdout } = child
    if (stdout === null) return reject(new Error('ssh has no pipes'))
    let seen: Buffer = Buffer.alloc(0)
    const onData = (piece: Buffer) => {
      seen = Buffer.concat([seen, piece])
      const at = seen.indexOf(stdioBanner)
      if (at < 0 && seen.length <= noiseBytesMax) return
      stdout.off('data', onData)
      stdout.pause()
      if (at < 0)
        return reject(
          new Error(`the shell over there prints much, but no link: ${seen.toString('latin1', 0, 80)}`),
        )
      const rest = seen.subarray(at + stdioBanner.length)
      if (rest.length > 0) stdout.unshift(rest)
      resolve()
    }
    stdout.on('data', onData)
  })
}

function aborted(signal: AbortSignal): Promise<never> {
  return new Promise((_resolve, reject) => {
    signal.addEventListener('abort', () => reject(signal.reason), { once: true })
  })
}

/** For the shell over there. */
function quoted(word: string): string {
  return /^[A-Za-z0-9_./:=-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`
}

/** A Redis server with an append-only file, for tests: starts one, and judges what one has loaded. */
import assert from 'node:assert/strict'
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { basename, dirname } from 'node:path'
import { askRedis } from '../resp.ts'

export const keysInTurn = 500

export function commandBytes(...words: string[]): string {
  return `*${words.length}\r\n${words.map(word => `$${Buffer.byteLength(word)}\r\n${word}\r\n`).join('')}`
}

export const redisInstalled = spawnSync('redis-server', ['--version']).status === 0

/** On a unix socket only; `appendDirectory` is made by the server when missing. */
export async function startRedis(
  appendDirectory: string,
): Promise<{ readonly server: ChildProcess; readonly socketPath: string }> {
  const given = [
    ...['--port', '0', '--unixsocket', 's', '--dir', '.', '--daemonize', 'no', '--save', ''],
    ...['--appendonly', 'yes', '--appenddirname', basename(appendDirectory), '--appendfsync', 'no'],
  ]
  const server = spawn('redis-server', given, {
    cwd: dirname(appendDirectory),
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let said = ''
  server.stdout.on('data', (data: Buffer) => {
    said += data.toString()
  })
  server.stderr.resume()
  const socketPath = `/proc/${server.pid}/cwd/s`
  for (const deadlineMs = performance.now() + 30_000; ; ) {
    assert.ok(
      server.exitCode === null && performance.now() < deadlineMs,
      `redis-server does not start: ${said}`,
    )
    const reply = await askRedis(socketPath, 5000, 'PING').catch(() => undefined)
    if (reply?.kind === 'value') return { server, socketPath }
    await new Promise(resolve => setTimeout(resolve, 20))
  }
}

export async function stopRedis(server: ChildProcess): Promise<void> {
  if (server.exitCode !== null || server.signalCode !== null) return
  server.kill('SIGKILL')
  await new Promise(resolve => server.once('exit', resolve))
}

/** Loads an append-only directory with a real server; throws when it holds anything but transactions 1 to `last`. */
export async function judgeRedis(appendDirectory: string): Promise<number> {
  const { server, socketPath } = await startRedis(appendDirectory)
  try {
    const get = async (key: string) => (await askRedis(socketPath, 5000, 'GET', key)).text
    const last = Number(await get('last'))
    for (let number = Math.max(1, last - keysInTurn + 1); number <= last; number++) {
      const value = await get(`key:${number % keysInTurn}`)
      assert.equal(value, `${number}:${'x'.repeat(number % 200)}`, `transaction ${number} of ${last}`)
    }
    return last
  } finally {
    await stopRedis(server)
  }
}

/** A Prometheus server that scrapes itself, for tests. */
import assert from 'node:assert/strict'
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import * as fs from 'node:fs'
import { freePort } from '../../../os/testing/free-port.ts'

export const prometheusInstalled = spawnSync('prometheus', ['--version']).status === 0

export interface Prometheus {
  readonly server: ChildProcess
  /** What it logged so far. */
  log(): string
  /** Samples of `up` that it has; 0 when it has none. */
  samples(): Promise<number>
  stop(): Promise<void>
}

/** `data` is its storage path: with `wal` in it, that is replayed first. */
export async function startPrometheus(data: string, scrapes: boolean): Promise<Prometheus> {
  const port = await freePort()
  const configuration = `${data}.yml`
  const job = `scrape_configs: [{job_name: self, scrape_interval: 100ms, scrape_timeout: 100ms, static_configs: [{targets: ['127.0.0.1:${port}']}]}]`
  fs.writeFileSync(configuration, scrapes ? job : 'scrape_configs: []')
  const server = spawn(
    'prometheus',
    [
      ...[`--config.file=${configuration}`, `--storage.tsdb.path=${data}`],
      ...[`--web.listen-address=127.0.0.1:${port}`, '--storage.tsdb.wal-segment-size=10MB'],
    ],
    { stdio: ['ignore', 'pipe', 'pipe'] },
  )
  let logged = ''
  for (const stream of [server.stdout, server.stderr]) {
    stream.on('data', (text: Buffer) => {
      logged += text.toString()
    })
  }
  const stop = async () => {
    if (server.exitCode !== null || server.signalCode !== null) return
    server.kill('SIGKILL')
    await new Promise(resolve => server.once('exit', resolve))
  }
  const deadlineMs = performance.now() + 30_000
  for (;;) {
    assert.ok(
      server.exitCode === null && performance.now() < deadlineMs,
      `prometheus does not start: ${logged}`,
    )
    const ready = await fetch(`http://127.0.0.1:${port}/-/ready`).catch(() => undefined)
    await ready?.body?.cancel()
    if (ready?.status === 200) break
    await new Promise(resolve => setTimeout(resolve, 50))
  }
  return {
    server,
    log: () => logged,
    stop,
    async samples() {
      const query = encodeURIComponent('sum(count_over_time(up[1h]))')
      const reply = await fetch(`http://127.0.0.1:${port}/api/v1/query?query=${query}`)
      const body = (await reply.json()) as { data: { result: { value: [number, string] }[] } }
      return Number(body.data.result[0]?.value[1] ?? 0)
    },
  }
}

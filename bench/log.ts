/** Append and acknowledge 1 KiB transactions, durable, 64 at a time: the log beside servers that do the same. */
import { spawn, spawnSync } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { freePort } from '../src/os/testing/free-port.ts'
import type { Benchmark, Result, Setting } from './bench.ts'
import { JetStream } from './jetstream.ts'
import { end, median } from './measure.ts'

const atOnce = 64
const recordBytes = 1024

export const logAppend: Benchmark = {
  name: 'log-append',
  peers: { 'redis-server': 'redis-server', 'redis-benchmark': 'redis-tools', 'nats-server': 'nats-server' },
  async run({ scale, directory }: Setting): Promise<Result[]> {
    const seconds = Math.max(1, scale.seconds / 5)
    const figures = { hotspare: [] as number[], redis: [] as number[], jetstream: [] as number[] }
    for (let i = 0; i < scale.runs; i++) {
      figures.hotspare.push(ours(join(directory, `log-${i}`), seconds))
      figures.redis.push(await redis(join(directory, `redis-${i}`), seconds))
      figures.jetstream.push(await jetStream(join(directory, `nats-${i}`), seconds))
    }
    const compared = [
      ['redis, appendfsync always', figures.redis],
      ['nats-server JetStream, file storage, sync_interval always', figures.jetstream],
    ] as const
    return compared.map(([against, theirs]) => {
      const ratios = figures.hotspare.map((rate, i) => rate / (theirs[i] as number))
      const value = median(ratios)
      const rates = `${Math.round(median(figures.hotspare))}/s and ${Math.round(median(theirs))}/s`
      return {
        what: `log: append 1 KiB, durable, ${atOnce} at a time`,
        against,
        figure: `ratio ${value.toFixed(2)} (${rates})`,
        value,
        toReach: 'above 1',
        reached: value > 1,
        details: { atOnce, recordBytes, seconds, hotspare: figures.hotspare, theirs },
      }
    })
  },
}

function ours(directory: string, seconds: number): number {
  const script = fileURLToPath(new URL('./processes/log-writer.ts', import.meta.url))
  const given = [script, directory, '--seconds', String(seconds), '--appenders', String(atOnce)]
  const { stdout, status, stderr } = spawnSync(process.execPath, given, { encoding: 'utf8' })
  if (status !== 0) throw new Error(`log-writer: status ${status}: ${stderr}`)
  return rateOf(JSON.parse(stdout) as { count: number; seconds: number })
}

const rateOf = ({ count, seconds }: { count: number; seconds: number }) => count / seconds

/** Its own client, with one connection and with 64; the better of both counts. */
async function redis(directory: string, seconds: number): Promise<number> {
  mkdirSync(directory)
  const port = await freePort()
  const given = [
    '--port',
    String(port),
    '--dir',
    directory,
    '--bind',
    '127.0.0.1',
    '--save',
    '',
    '--daemonize',
    'no',
  ]
  const server = spawn('redis-server', [...given, '--appendonly', 'yes', '--appendfsync', 'always'], {
    stdio: 'ignore',
  })
  try {
    await answers(port)
    const rate = (count: number, connections: number) => {
      const options = ['-p', port, '-t', 'rpush', '-d', recordBytes, '-n', count, '-c', connections]
      const all = [...options, '-P', atOnce / connections, '--csv'].map(String)
      const { stdout } = spawnSync('redis-benchmark', all, { encoding: 'utf8' })
      const found = /^"RPUSH"?,"([\d.]+)"/m.exec(stdout)
      if (found === null) throw new Error(`redis-benchmark: ${stdout}`)
      return Number(found[1])
    }
    const rough = Math.max(rate(2000, 1), rate(2000, atOnce))
    const count = Math.ceil((rough * seconds) / 2)
    return Math.max(rate(count, 1), rate(count, atOnce))
  } finally {
    await end(server)
  }
}

async function jetStream(directory: string, seconds: number): Promise<number> {
  mkdirSync(directory)
  const port = await freePort()
  const file = join(directory, 'nats.conf')
  const store = `jetstream { store_dir: "${directory}/store", sync_interval: always }`
  writeFileSync(file, `host: 127.0.0.1\nport: ${port}\n${store}\n`)
  const server = spawn('nats-server', ['-c', file], { stdio: 'ignore' })
  try {
    await answers(port)
    const stream = await JetStream.connect(port)
    await stream.ask('$JS.API.STREAM.CREATE.log', { name: 'log', subjects: ['log'], storage: 'file' })
    const found = await stream.publish('log', Buffer.alloc(recordBytes, 'x'), seconds, atOnce)
    stream.close()
    return rateOf(found)
  } finally {
    await end(server)
  }
}

async function answers(port: number): Promise<void> {
  for (let i = 0; i < 200; i++) {
    const open = await new Promise<boolean>(resolve => {
      const socket = connect({ port, host: '127.0.0.1' })
      socket.once('connect', () => resolve(true)).once('error', () => resolve(false))
      socket.once('connect', () => socket.destroy())
    })
    if (open) return
    await new Promise(resolve => setTimeout(resolve, 50))
  }
  throw new Error(`nobody answers at port ${port}`)
}

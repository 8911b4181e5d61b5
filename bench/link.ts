import { type ChildProcess, spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import type { Benchmark, Result, Setting } from './bench.ts'
import { ended, median } from './measure.ts'

const program = fileURLToPath(new URL('./processes/link-ends.ts', import.meta.url))
/** What is measured is the bytes, not the handshake. */
const megabytesPerRun = 512

/** How many MB a second go from one process to another; `kind` is what carries them. */
async function rate(kind: 'link' | 'raw', megabytes: number): Promise<number> {
  const [sender, lines] = begin([kind, 'send', String(megabytes)])
  const address = await lines.next()
  const [receiver] = begin([kind, 'receive', String(megabytes), address.value])
  const seconds = Number((await lines.next()).value)
  await Promise.all([ended(sender), ended(receiver)])
  if (sender.exitCode !== 0 || receiver.exitCode !== 0) throw new Error(`${kind}: an end failed`)
  return (megabytes * 1.048576) / seconds
}

function begin(given: readonly string[]): [ChildProcess, AsyncIterator<string>] {
  const child = spawn(process.execPath, [program, ...given], { stdio: ['ignore', 'pipe', 'inherit'] })
  return [child, createInterface({ input: child.stdout })[Symbol.asyncIterator]()]
}

/** Bulk of the log over a link with TLS on loopback, beside a plain TLS socket of Node.js that copies the same bytes. */
export const linkBulk: Benchmark = {
  name: 'link-bulk',
  async run({ scale }: Setting): Promise<Result[]> {
    const megabytes = Math.min(megabytesPerRun, scale.bytes / 2 ** 20)
    const ratios: number[] = []
    const rates: { link: number; raw: number }[] = []
    for (let i = 0; i < scale.runs; i++) {
      const raw = await rate('raw', megabytes)
      const link = await rate('link', megabytes)
      rates.push({ link, raw })
      ratios.push(link / raw)
    }
    const ratio = median(ratios)
    return [
      {
        what: 'bulk over the link, TLS, loopback',
        against: 'raw TLS copy',
        figure: `ratio ${ratio.toFixed(2)} (${Math.round(median(rates.map(({ link }) => link)))} MB/s)`,
        value: ratio,
        toReach: 'at least 0.50',
        reached: ratio >= 0.5,
        details: { megabytes, rates },
      },
    ]
  },
}

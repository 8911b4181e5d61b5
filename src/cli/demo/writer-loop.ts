import { setTimeout as sleep } from 'node:timers/promises'

const sliceMs = 10
const reportMs = 100

export interface WriterReport {
  /** Transactions 1 to this are committed. */
  readonly committed: number
  readonly done: boolean
}

/**
 * Calls `write` with 1, 2, 3 ... as fast as it goes in bursts of 10 ms, with `restMs` between them, until SIGTERM; tells
 * on stdout how far it is. Three applications and their followers share a small machine, and what was written has to be
 * read again for the proofs.
 */
export async function writeUntilTold(restMs: number, write: (number: number) => void): Promise<void> {
  let stopping = false
  process.on('SIGTERM', () => {
    stopping = true
  })
  // the demo has gone: whoever started this does not read any more
  process.stdout.on('error', () => process.exit(1))
  const report = (done: boolean) => process.stdout.write(`${JSON.stringify({ committed, done })}\n`)
  let committed = 0
  let reportedMs = 0
  while (!stopping) {
    const sliceEndMs = performance.now() + sliceMs
    while (performance.now() < sliceEndMs) write(++committed)
    if (performance.now() - reportedMs >= reportMs) {
      report(false)
      reportedMs = performance.now()
    }
    await sleep(restMs)
  }
  report(true)
}

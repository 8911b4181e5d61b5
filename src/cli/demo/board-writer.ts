/**
 * An application of the demo and of the tests, in a process of its own: a message board that several people post to as
 * fast as it goes. It knows nothing of hotspare. While its maintenance flag is there nobody posts; the mode is
 * acknowledged when the posts under way have ended. The administrator, if there is one, posts all the same.
 *
 *   board-writer DIRECTORY [--flag FILE --acknowledgement FILE] [--posters N] [--prefill POSTS]
 *     [--pause-ms P] [--administrator-ms P]
 *
 * Says how it stands, a line of JSON every 100 ms (BoardReport); ends on SIGTERM, when the posts under way have ended.
 */
import { mkdirSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { MaintenanceMode } from './maintenance-flag.ts'
import { MessageBoard, type Poster } from './message-board.ts'

export interface BoardReport {
  /** Posts that are whole: in the log, on their pages, counted. */
  readonly committed: number
  /** Of these, written by the administrator while the mode was on. */
  readonly byAdministrator: number
  /** How often the mode was on, and how long the longest time was, from the acknowledgement on. */
  readonly holds: number
  readonly longestHoldMs: number
  readonly done: boolean
}

const reportMs = 100
const lookMs = 1

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    flag: { type: 'string' },
    acknowledgement: { type: 'string' },
    posters: { type: 'string', default: '4' },
    prefill: { type: 'string', default: '0' },
    'pause-ms': { type: 'string', default: '0' },
    'administrator-ms': { type: 'string' },
  },
})
const directory = positionals[0] ?? ''
mkdirSync(directory, { recursive: true })
const { flag, acknowledgement } = values
const mode =
  flag === undefined || acknowledgement === undefined
    ? undefined
    : new MaintenanceMode({ flag, acknowledgement })

let stopping = false
process.on('SIGTERM', () => {
  stopping = true
})
// whoever started this has gone, and does not read any more
process.stdout.on('error', () => process.exit(1))

const report = { committed: 0, byAdministrator: 0, holds: 0, longestHoldMs: 0, done: false }
const say = () => process.stdout.write(`${JSON.stringify(report satisfies BoardReport)}\n`)

const board = new MessageBoard(directory)
board.prefill(Number(values.prefill))
report.committed = Number(values.prefill)
const posters = Array.from({ length: Number(values.posters) }, (_, i) => board.poster(`member ${i + 1}`))
const pauseMs = Number(values['pause-ms'])

async function post(poster: Poster): Promise<void> {
  while (!stopping && mode?.wanted !== true) {
    await poster.post()
    report.committed++
    if (pauseMs > 0) await sleep(pauseMs)
  }
}

const administrator = values['administrator-ms'] === undefined ? undefined : board.poster('administrator')
const administratorMs = Number(values['administrator-ms'])

/** Nobody posts but the administrator, until the flag is gone. */
async function hold(maintenance: MaintenanceMode): Promise<void> {
  maintenance.acknowledge()
  const sinceMs = performance.now()
  let postedMs = sinceMs
  report.holds++
  while (!stopping && maintenance.wanted) {
    await sleep(lookMs)
    maintenance.acknowledge()
    if (administrator === undefined || performance.now() - postedMs < administratorMs) continue
    await administrator.post()
    postedMs = performance.now()
    report.committed++
    report.byAdministrator++
  }
  report.longestHoldMs = Math.max(report.longestHoldMs, performance.now() - sinceMs)
  maintenance.over()
}

const reporting = setInterval(say, reportMs)
while (!stopping) {
  await Promise.all(posters.map(post))
  if (mode !== undefined && !stopping) await hold(mode)
}
clearInterval(reporting)
report.done = true
say()

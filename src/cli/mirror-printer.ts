/** What a mirror tells, as people read it. */
import type { MirrorReport } from '../daemon/mirror.ts'
import type { MirrorEvent } from '../daemon/mirror-events.ts'
import { formatBytes, formatCount, formatDuration } from './format.ts'
import { LeasePrinter } from './leases.ts'
import { type Output, styled } from './output.ts'

export class MirrorPrinter {
  readonly #output: Output
  readonly #verbose: boolean
  readonly #leases: LeasePrinter

  constructor(output: Output, verbose: boolean) {
    this.#output = output
    this.#verbose = verbose
    this.#leases = new LeasePrinter(output)
  }

  print(event: MirrorEvent): void {
    this.#output.object(event)
    switch (event.event) {
      case 'started': {
        const by = event.followed ? ', by the follower that runs' : ''
        this.#output.say(`Mirroring ${event.source} into ${event.target}${by}`)
        break
      }
      case 'progress': {
        const { bytes, backlogBytes } = event
        this.#output.progress(bytes, backlogBytes ? bytes + backlogBytes : undefined)
        break
      }
      case 'pass':
        this.#output.say(`before the window: ${moved(event)} in ${formatDuration(event.tookMs)}`)
        break
      case 'already-on':
        this.#output.say('maintenance mode is on already; it will be left on')
        break
      case 'entered':
        this.#output.say(`${styled('yellow', 'maintenance mode is on')}`)
        break
      case 'held':
        this.#output.say(`inside the window: ${moved(event)}`)
        break
      case 'left':
        this.#output.say(
          `${styled('green', 'maintenance mode is off again')} after ${formatDuration(event.heldMs)}`,
        )
        break
      case 'durable':
        break
      case 'archived':
        this.#output.say(
          `archived: ${event.file}, ${formatBytes(event.bytes)} in ${formatDuration(event.tookMs)}`,
        )
        break
      case 'refreshed':
        break
      case 'refresh-failed':
        this.#output.warn(`the mode could not be refreshed: ${event.message}`)
        break
      case 'leave-retrying':
        this.#output.warn(`${event.message} Trying again in ${formatDuration(event.delayMs)}.`)
        break
      case 'output':
        if (this.#verbose) this.#output.say(event.output.replace(/^/gm, `  ${event.step}: `))
        break
      case 'notice':
      case 'retrying':
        this.#output.warn(`${event.message} (${event.code})`)
        break
      case 'leaving':
      case 'left-late':
      case 'leave-failed':
        this.#leases.print(event)
        break
      default:
        event satisfies never
    }
  }
}

function moved({ bytes, files, removed }: { bytes: number; files: number; removed: number }): string {
  const gone = removed === 0 ? '' : `, ${removed} removed`
  return `${formatCount(files, 'file')}, ${formatBytes(bytes)}${gone}`
}

export function conclude(report: MirrorReport, output: Output): void {
  const { changed, changedCount } = report
  if (changedCount > 0) {
    output.warn(
      `written during the window all the same (${formatCount(changedCount, 'path')}): ${changed.join(', ')}${changedCount > changed.length ? ' ...' : ''}`,
    )
  }
  const how = report.entered
    ? `the application was held for ${formatDuration(report.heldMs)}`
    : 'maintenance mode was on before, and still is'
  output.say(`${styled('green', 'done')}: ${report.target} is consistent; ${how}`)
}

import type { Command } from 'commander'
import { clearQueue, moveQueue, showFile, showQueue, takeOutFirst, verifyQueue } from '../daemon/queue.ts'
import { findConfig, type ServerView, viewServer } from '../daemon/server-command.ts'
import type { ServerConfig } from '../daemon/server-config.ts'
import type { ShownTransaction } from '../log/log-tools.ts'
import { errorCodes, HotspareError } from '../os/errors.ts'
import type { CommandContext } from './command.ts'
import { formatBytes, formatCount, formatTime } from './format.ts'
import { Output, styled } from './output.ts'
import { addServerCommand, type ServerCommandOptions } from './server-command.ts'

const help = `
Looking changes nothing, and works while the server runs. 'clear' and 'move' are for a stopped server.

Examples:
  hotspare queue show --count 5 --data
  hotspare queue verify
  hotspare queue first /tmp/first.txlog`

const showHelp = `
Size, whether enqueuing is on, what is acknowledged, then the transactions.

Examples:
  hotspare queue show
  hotspare queue show --from 1200 --count 5 --data
  hotspare queue show --file /var/lib/hotspare/default/quarantine/app-1204.txlog
  hotspare queue show --json | jq 'select(.event == "transaction") | .number'`

const verifyHelp = `
Reads the whole log and says what is damaged, and where. Exit status 0 when all holds.

Examples:
  hotspare queue verify`

const firstHelp = `
Copies the first transaction, or another, to a file of its own that 'queue show --file' reads. The log keeps it.

Examples:
  hotspare queue first /tmp/first.txlog
  hotspare queue first /tmp/one.txlog --number 1204`

const clearHelp = `
Drops all transactions of a stopped server's log. Numbers go on after the last. What a standby has not
got is not lost at the primary, but each standby has to compare its copies with it. On a standby, what
it has received and not applied yet is dropped too.

Examples:
  hotspare queue clear --yes`

const moveHelp = `
Drops the transactions before this number from a stopped server's log, in whole segments. A standby that
has not got them has to compare its copies.

Examples:
  hotspare queue move 1200 --yes`

interface ShowOptions extends ServerCommandOptions {
  readonly from?: string
  readonly count: string
  readonly data?: boolean
  readonly file?: string
}

interface ChangeOptions extends ServerCommandOptions {
  readonly yes?: boolean
}

export function registerQueue(program: Command, context: CommandContext): void {
  // without options of its own: they would take those of the commands below
  const queue = program
    .command('queue')
    .summary('show, verify, clear or shorten the log')
    .description('show, verify, clear or shorten the log')
    .helpOption('-h, --help', 'print this help')
    .addHelpText('after', help)
  addServerCommand(queue, 'show', 'what stands in the log', showHelp)
    .option('--from <number>', 'begin with this transaction')
    .option('--count <number>', 'so many transactions at most', '20')
    .option('--data', 'show what each of them writes')
    .option('--file <file>', 'a file that was put aside or taken out, instead of the log')
    .action((options: ShowOptions) => show(options, context))
  addServerCommand(queue, 'verify', 'read the whole log, and say what is damaged', verifyHelp).action(
    (options: ServerCommandOptions) => verify(options, context),
  )
  addServerCommand(queue, 'first', 'copy a transaction to a file of its own', firstHelp)
    .argument('<file>', 'must not be there yet')
    .option('--number <number>', 'this one instead of the first')
    .action(async (file: string, options: ServerCommandOptions & { readonly number?: string }) => {
      const output = new Output(options)
      const wanted = options.number === undefined ? undefined : numberOf('--number', options.number, 1)
      const taken = await takeOutFirst(await findConfig(options.config), file, wanted)
      output.object(taken)
      output.say(`transaction ${taken.number} is in ${taken.path}`)
      context.done(0)
    })
  addServerCommand(queue, 'clear', 'server stopped: drop all transactions', clearHelp)
    .option('--yes', 'do it')
    .action(async (options: ChangeOptions) => {
      const output = new Output(options)
      const config = await findConfig(options.config)
      const own = await lossOfStandby(config, context.signal)
      confirmed(options, `Each standby has to compare all its copies when the log is cleared.${own}`)
      const result = await clearQueue(config)
      output.object(result)
      output.say(`${formatCount(result.transactions, 'transaction')} dropped`)
      context.done(0)
    })
  addServerCommand(queue, 'move', 'server stopped: drop the transactions before a number', moveHelp)
    .argument('<number>', 'the first to be kept')
    .option('--yes', 'do it')
    .action(async (number: string, options: ChangeOptions) => {
      const output = new Output(options)
      const first = numberOf('The number', number, 1)
      const config = await findConfig(options.config)
      const own = await lossOfStandby(config, context.signal)
      confirmed(
        options,
        `Each standby that has not got all before transaction ${first} has to compare.${own}`,
      )
      const result = await moveQueue(config, first)
      output.object(result)
      output.say(`the log begins with transaction ${result.first}`)
      if (result.dropped.length > 0) output.warn(`these have to compare now: ${result.dropped.join(', ')}`)
      context.done(0)
    })
}

async function show(options: ShowOptions, context: CommandContext): Promise<void> {
  const output = new Output(options)
  const from = options.from === undefined ? undefined : numberOf('--from', options.from, 0)
  const count = numberOf('--count', options.count, 0)
  let transactions: AsyncIterable<ShownTransaction>
  if (options.file === undefined) {
    const config = await findConfig(options.config)
    sayView(await viewServer(config, 0, context.signal), output)
    transactions = showQueue(config, from)
  } else transactions = showFile(options.file, from)
  let shown = 0
  if (count === 0) return context.done(0)
  for await (const transaction of transactions) {
    context.signal.throwIfAborted()
    sayTransaction(transaction, options.data ?? false, output)
    if (++shown >= count) break
  }
  if (shown === 0) output.say('no transactions')
  context.done(0)
}

function sayView({ running, status }: ServerView, output: Output): void {
  if (status === undefined) return
  const { log, enqueuing } = status
  output.object({ event: 'log', running, enqueuing, ...log })
  const size = `${formatCount(log.next - log.first, 'transaction')}, ${formatBytes(log.bytes)}`
  output.say(
    `log         ${log.first} to ${log.next - 1}: ${size}${running ? '' : ' (as the server last said)'}`,
  )
  output.say(`enqueuing   ${enqueuing ? 'on' : 'off'}`)
  for (const { name, acknowledged, kept } of log.subscribers)
    output.say(`acknowledged by ${name}: ${acknowledged}${kept ? '' : ' (nothing is kept for it)'}`)
}

function sayTransaction(transaction: ShownTransaction, data: boolean, output: Output): void {
  const { entries, ...rest } = transaction
  output.object({ event: 'transaction', ...rest, ...(data ? { entries } : {}) })
  const { number, epoch, store, timeMs, entryCount, bytes, consistent } = transaction
  const what = `${formatCount(entryCount, 'entry', 'entries')}, ${formatBytes(bytes)}`
  const mark = consistent ? '' : ', not consistent'
  output.say(
    `${styled('bold', String(number))}  ${formatTime(timeMs)}  ${store}  epoch ${epoch.number}  ${what}${mark}`,
  )
  if (!data) return
  for (const { text, preview } of entries)
    output.say(`    ${text}${preview === undefined ? '' : `\n      ${preview.text}`}`)
  if (entryCount > entries.length)
    output.say(`    and ${formatCount(entryCount - entries.length, 'more entry', 'more entries')}`)
}

async function verify(options: ServerCommandOptions, context: CommandContext): Promise<void> {
  const output = new Output(options)
  const result = await verifyQueue(await findConfig(options.config))
  const { overview, transactions, findings } = result
  output.object(result)
  for (const { file, offset, what, number } of findings)
    output.warn(`${file}, offset ${offset}: ${what}; transaction ${number} cannot be read`)
  const size = `${formatCount(transactions, 'transaction')}, ${formatBytes(overview.bytes)}`
  if (findings.length === 0) output.say(`${styled('green', 'whole')}: ${size}`)
  context.done(findings.length === 0 ? 0 : errorCodes['log-damaged'].exit)
}

/** What a standby has received is all that it knows of what it has not applied. */
async function lossOfStandby(config: ServerConfig, signal: AbortSignal): Promise<string> {
  const { status } = await viewServer(config, 0, signal)
  if ((status?.role ?? config.settings.role) !== 'standby') return ''
  return ' This server is a standby: dropped transactions that its own copies have not applied yet are lost here, so it must not be promoted before it has compared its copies with its upstream.'
}

function confirmed({ yes }: ChangeOptions, meaning: string): void {
  if (yes !== true) throw new HotspareError('usage', `${meaning} Say --yes when that is meant.`)
}

function numberOf(what: string, text: string, least: number): number {
  const value = Number(text)
  if (/^\d+$/.test(text) && Number.isSafeInteger(value) && value >= least) return value
  throw new HotspareError('usage', `${what} is a whole number from ${least} on; found '${text}'.`)
}

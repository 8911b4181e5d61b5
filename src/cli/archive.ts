import { availableParallelism } from 'node:os'
import type { Command } from 'commander'
import { type ArchiveMember, archive, listArchive, verifyArchive } from '../daemon/archive.ts'
import { errorCodes, HotspareError } from '../os/errors.ts'
import { addCommand, type CommandContext, type CommonOptions, given } from './command.ts'
import { formatBytes, formatCount, formatDuration, formatTime } from './format.ts'
import { Output } from './output.ts'

const help = `
Makes an archive of a copy's newest consistent state, also while it is being followed: a .tar, .tar.gz
(.tgz) or .tar.zst that any tar extracts, with all metadata (times to the nanosecond, ACLs, extended
attributes, hard links, holes of sparse files). It is written under another name, read back and compared
with the copy's digests, and only then takes its own: an archive that was there before is replaced by a
whole one or not at all. '-' is standard output; it needs --format.

The same content gives the same bytes. Numbers of users and groups are kept, names are not.

--list shows what stands in an archive, like 'tar tvf'. --verify reads all of it and says what is
damaged, and where; with a COPY it is compared with that as well. Exit status 0 when all holds, 7 when
something does not.

To extract all of it, as root:
  tar --xattrs --xattrs-include='*' --acls --numeric-owner -xpf FILE -C EMPTY-DIRECTORY

Examples:
  hotspare archive /backup/board /archive/board-$(date +%F).tar.zst
  hotspare archive /backup/app.db - --format tar.zst | ssh host 'cat > app.tar.zst'
  hotspare archive --list /archive/board.tar.zst
  hotspare archive --verify /archive/board.tar.zst /backup/board`

interface Options extends CommonOptions {
  readonly list?: boolean
  readonly verify?: boolean
  readonly format?: string
  readonly level?: string
  readonly consistent?: boolean
}

/**
 * Of Node.js's pool, which is made when it is first used: each core has a frame to compress, and one thread is left for
 * files. More of them would take the memory next to the cores from one another. What the user says counts.
 */
const poolThreads = String(availableParallelism() + 1)

export function registerArchive(program: Command, context: CommandContext): void {
  process.env.UV_THREADPOOL_SIZE ??= poolThreads
  addCommand(program, 'archive', 'a tar archive of a copy, read back and checked; or look into one', help)
    .argument('<target>', 'the copy; with --list or --verify the archive')
    .argument('[file]', "the archive to make, or '-'; with --verify the copy to compare with")
    .option('-l, --list', 'show what stands in an archive')
    .option('--verify', 'read a whole archive, and say what is damaged')
    .option('--format <format>', 'tar, tar.gz or tar.zst (by the name)')
    .option('--level <n>', 'of the compression: zstd 1 to 19 (2), gzip 1 to 9 (6)')
    .option('--consistent', 'refuse a copy that was never read inside a maintenance window')
    .action(async (target: string, file: string | undefined, options: Options) => {
      refuseMixture(options, file)
      if (options.list === true) await list(target, options, context)
      else if (options.verify === true) await verify(target, file, options, context)
      else if (file === undefined) throw new HotspareError('usage', 'Name the archive to make.')
      else await make(target, file, options, context)
    })
}

function refuseMixture(options: Options, file: string | undefined): void {
  const { list, verify, format, level, consistent } = options
  const refuse = (what: string): never => {
    throw new HotspareError('usage', `${what} 'hotspare archive --help' shows how.`)
  }
  if (list && verify) refuse('Either --list or --verify.')
  if ((list || verify) && (format ?? level ?? consistent) !== undefined)
    refuse('--format, --level and --consistent are for making an archive.')
  if (list && file !== undefined) refuse('--list takes one archive.')
}

async function make(target: string, file: string, options: Options, context: CommandContext): Promise<void> {
  const toOutput = file === '-'
  if (toOutput && options.json === true)
    throw new HotspareError('usage', 'Standard output is the archive; --json has no place there.')
  if (toOutput && process.stdout.isTTY)
    throw new HotspareError('usage', 'An archive is nothing for a terminal: send it into a pipe or a file.')
  const output = new Output(toOutput ? { ...options, quiet: options.quiet ?? false } : options)
  const result = await archive({
    target,
    to: toOutput ? process.stdout : file,
    ...given({
      format: options.format as 'tar' | undefined,
      level: levelOf(options.level),
      consistent: options.consistent,
    }),
    signal: context.signal,
    onProgress: done => output.progress(done.bytes, done.totalBytes),
    onNotice: notice => output.warn(`${notice.message} (${notice.code})`),
  }).finally(() => output.end())
  const figures = [
    formatCount(result.members, 'member'),
    formatBytes(result.bytes),
    `${formatBytes(result.archiveBytes)} as ${result.format}`,
    `in ${formatDuration(result.elapsedMs)}`,
  ].join(', ')
  if (toOutput) {
    await flushed()
    if (options.quiet !== true) process.stderr.write(`${figures}, checked\n`)
  } else {
    output.object(result)
    const asOf = result.consistent ? 'as of' : 'not proved consistent, as of'
    output.say(
      `${result.file}: ${figures}, read back and checked, ${asOf} ${formatTime(result.commit.timeMs)}`,
    )
  }
  context.done(0)
}

/** The process ends by itself only when all has been taken. */
function flushed(): Promise<void> {
  return new Promise(resolve => {
    if (process.stdout.writableLength === 0) resolve()
    else process.stdout.write('', () => resolve())
  })
}

function levelOf(text: string | undefined): number | undefined {
  if (text === undefined) return undefined
  if (/^[0-9]{1,2}$/.test(text)) return Number(text)
  throw new HotspareError('usage', `--level takes a number, not '${text}'.`)
}

async function list(file: string, options: Options, context: CommandContext): Promise<void> {
  const output = new Output(options)
  for await (const member of listArchive({ file, signal: context.signal })) {
    output.object(member)
    output.say(line(member))
    // who reads slowly is waited for
    if (process.stdout.writableNeedDrain) {
      await new Promise<void>(resolve => {
        process.stdout.once('drain', resolve)
        context.signal.addEventListener('abort', () => resolve(), { once: true })
      })
    }
    context.signal.throwIfAborted()
  }
  context.done(0)
}

async function verify(
  file: string,
  against: string | undefined,
  options: Options,
  context: CommandContext,
): Promise<void> {
  const output = new Output(options)
  const result = await verifyArchive({
    file,
    ...given({ against }),
    signal: context.signal,
    onProgress: done => output.progress(done.bytes, done.totalBytes),
    onNotice: notice => output.warn(`${notice.message} (${notice.code})`),
  }).finally(() => output.end())
  output.object(result)
  output.findings(result.findings)
  const figures = `${formatCount(result.members, 'member')}, ${formatBytes(result.bytes)} in ${formatDuration(result.elapsedMs)}`
  if (result.valid) output.say(`${result.file} is whole (${figures})`)
  else output.warn(`${result.file} is damaged, or is not this copy (${figures}) (archive-damaged)`)
  context.done(result.valid ? 0 : errorCodes['archive-damaged'].exit)
}

const kindLetters = { file: '-', directory: 'd', symlink: 'l', hardlink: 'h', other: '?' } as const

/** As 'tar tvf' shows it. */
function line(member: ArchiveMember): string {
  const owner = `${member.userName ?? member.uid}/${member.groupName ?? member.gid}`
  const time = new Date(member.timeMs)
  const shownTime = Number.isNaN(time.getTime()) ? '?' : time.toISOString().replace('T', ' ').slice(0, 16)
  const link =
    member.link === undefined
      ? ''
      : member.kind === 'symlink'
        ? ` -> ${member.link}`
        : ` link to ${member.link}`
  const attributes = member.attributes > 0 ? '+' : ' '
  const size = String(member.size).padStart(Math.max(1, 19 - owner.length))
  return `${kindLetters[member.kind]}${modeText(member.mode)}${attributes}${owner} ${size} ${shownTime} ${member.path}${link}`
}

function modeText(mode: number): string {
  const part = (shift: number, special: boolean, letter: string) => {
    const bits = (mode >> shift) & 7
    const execute = bits & 1 ? (special ? letter : 'x') : special ? letter.toUpperCase() : '-'
    return `${bits & 4 ? 'r' : '-'}${bits & 2 ? 'w' : '-'}${execute}`
  }
  return (
    part(6, (mode & 0o4000) !== 0, 's') +
    part(3, (mode & 0o2000) !== 0, 's') +
    part(0, (mode & 0o1000) !== 0, 't')
  )
}

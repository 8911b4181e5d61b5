import type { Command } from 'commander'
import { clone } from '../daemon/clone.ts'
import { addCommand, type CommandContext, type CommonOptions } from './command.ts'
import { formatBytes, formatDuration, formatTime } from './format.ts'
import { Output } from './output.ts'

const help = `
TARGET is a copy that 'hotspare follow' keeps or has kept. DEST must not exist; for a SQLite database
it may also be a directory that gets the clone under the copy's name. The clone is a plain store with
no tie to hotspare: open it, change it, carry it away. Following is not disturbed.

Where the file system can (Btrfs, XFS, bcachefs), the clone shares its blocks with the copy and takes
no time and no space ('reflink'); else the bytes are copied.

Examples:
  hotspare clone /backup/app.db /tmp/app-now.db && sqlite3 /tmp/app-now.db 'SELECT count(*) FROM orders'
  hotspare clone SALES-COPY.rdm SALES-TEST.rdm --json`

export function registerClone(program: Command, context: CommandContext): void {
  addCommand(program, 'clone', 'a consistent copy of a copy, also while it is being followed', help)
    .argument('<target>', 'the copy')
    .argument('<dest>', 'the clone to make')
    .action(async (target: string, destination: string, options: CommonOptions) => {
      const output = new Output(options)
      const result = await clone({
        target,
        destination,
        signal: context.signal,
        onProgress: done => output.progress(done.bytes, done.totalBytes),
        onNotice: notice => output.warn(`${notice.message} (${notice.code})`),
      }).finally(() => output.end())
      output.object(result)
      output.say(
        `${result.destination}: ${formatBytes(result.bytes)} by ${result.method} in ${formatDuration(result.elapsedMs)}, as of ${formatTime(result.commit.timeMs)}`,
      )
      context.done(0)
    })
}

import { once } from 'node:events'
import { Socket } from 'node:net'
import type { Command } from 'commander'
import { linkSocketName } from '../daemon/link-machine.ts'
import { findConfig } from '../daemon/server-command.ts'
import { HotspareError, isSystemError } from '../os/errors.ts'
import { connectLocal } from '../os/local-socket.ts'
import { stdioBanner } from '../os/ssh-transport.ts'
import type { CommandContext } from './command.ts'
import { addServerCommand, type ServerCommandOptions } from './server-command.ts'

const help = `
Run by the ssh of another server of the set, whose peer's address here is ssh://...: it passes bytes on
to the server that runs on this machine, as the user who runs it. It is of no use by hand.

To allow an ssh key nothing else, in ~/.ssh/authorized_keys here:
  command="hotspare link --stdio",restrict ssh-ed25519 AAAA...`

interface LinkOptions extends ServerCommandOptions {
  readonly stdio?: boolean
}

export function registerLink(program: Command, context: CommandContext): void {
  addServerCommand(program, 'link', 'pass a link on to the server that runs here (run by ssh)', help)
    .requiredOption('--stdio', 'the link is on standard input and output')
    .action(async (options: LinkOptions) => {
      const { settings } = await findConfig(options.config)
      await passThrough(settings.stateDirectory, context.signal)
      context.done(0)
    })
}

/** Until either side has ended. */
async function passThrough(stateDirectory: string, signal: AbortSignal): Promise<void> {
  const socket = await connectLocal(stateDirectory, linkSocketName).catch(error => {
    if (isSystemError(error, 'ENOENT', 'ENOTDIR')) return undefined
    throw isSystemError(error, 'EACCES', 'EPERM')
      ? new HotspareError('permission-denied', `The server in ${stateDirectory} is another user's.`)
      : error
  })
  if (socket === undefined)
    throw new HotspareError('server-stopped', `No server runs here with its state in ${stateDirectory}.`)
  const output = standardOutput()
  const over = Promise.race([once(socket, 'close'), once(output, 'close'), once(process.stdin, 'end')])
  // whichever way it broke, it is over, and the two servers see it
  for (const stream of [socket, output, process.stdin]) stream.on('error', () => socket.destroy())
  const stop = () => socket.destroy()
  signal.addEventListener('abort', stop, { once: true })
  output.write(stdioBanner)
  socket.pipe(output)
  process.stdin.pipe(socket)
  try {
    await over
    // what the caller said last still goes to the server
    if (!socket.destroyed) {
      socket.end()
      await once(socket, 'close')
    }
    if (output.writableLength > 0 && !output.destroyed) await once(output, 'drain')
  } finally {
    signal.removeEventListener('abort', stop)
  }
}

/** process.stdout blocks the process when the pipe is full; both directions have to go on. */
function standardOutput() {
  try {
    return new Socket({ fd: 1, readable: false, writable: true })
  } catch {
    return process.stdout
  }
}

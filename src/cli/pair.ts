import { readFile, stat } from 'node:fs/promises'
import { createInterface } from 'node:readline/promises'
import type { Command } from 'commander'
import { localMachine } from '../daemon/machine.ts'
import { makePairing, takePairing } from '../daemon/pair.ts'
import { findConfig } from '../daemon/server-command.ts'
import { describeSystemError, HotspareError } from '../os/errors.ts'
import { systemRandom } from '../os/random.ts'
import type { CommandContext } from './command.ts'
import { given } from './command.ts'
import { Output } from './output.ts'
import { addServerCommand, type ServerCommandOptions } from './server-command.ts'

const help = `
Two servers talk to each other only when they are paired. On one of them name the other: a token is
printed. On the other one, give it to 'hotspare pair --take', on standard input or in a file, never on
the command line. The token holds a secret: carry it over a channel that you trust (ssh), and keep it
nowhere.

The second server knows the first by its certificate from then on. The first learns the second's on the
first connection that proves the secret, and takes no other afterwards.

Examples:
  alpha$ hotspare pair beta --address tcp://alpha.example.org:2000
  beta$  hotspare pair --take
  alpha$ hotspare pair beta | ssh beta hotspare pair --take`

interface PairOptions extends ServerCommandOptions {
  readonly take?: boolean
  readonly tokenFile?: string
  readonly address?: string
  readonly again?: boolean
}

const tokenBytesMax = 16 * 1024

export function registerPair(program: Command, context: CommandContext): void {
  addServerCommand(program, 'pair', 'make two servers known to each other', help)
    .argument('[name]', 'the other server, whose token is to be made')
    .option('--take', 'take the token of the other server')
    .option('--token-file <file>', 'take it from this file')
    .option('--address <address>', 'tell the other server where to call this one')
    .option('--again', 'although they are paired: with a new secret')
    .action(async (name: string | undefined, options: PairOptions) => {
      const output = new Output(options)
      if (name?.startsWith('hotspare-pair-')) {
        throw new HotspareError(
          'usage',
          "A token is not given on the command line, where others see it: say --take, and give it on standard input. Make a new one ('hotspare pair NAME --again'); this one may be known.",
        )
      }
      const takes = options.take === true || options.tokenFile !== undefined
      if (takes === (name !== undefined)) {
        throw new HotspareError(
          'usage',
          "Name the other server to make a token, or say --take to take one: 'hotspare help pair'.",
        )
      }
      const { settings, path } = await findConfig(options.config)
      if (name !== undefined) {
        const made = await makePairing(localMachine.storage, systemRandom, {
          settings,
          peer: name,
          again: options.again ?? false,
          ...given({ address: options.address }),
        })
        if (options.json) output.object(made)
        else process.stdout.write(`${made.token}\n`)
        // not on standard output, which may be the other server's standard input
        if (!options.json && !options.quiet)
          process.stderr.write(
            `Give this to ${name}, over a channel that you trust: 'hotspare pair --take' there.\n`,
          )
        if (!made.known) output.warn(`${path} does not name ${name} among its peers yet: add it there`)
      } else {
        const taken = await takePairing(
          localMachine.storage,
          settings,
          await readToken(options.tokenFile, context.signal),
        )
        output.object(taken)
        output.say(`paired with ${taken.peer}, whose certificate has the SHA-256 ${taken.fingerprint}`)
        if (taken.address !== undefined) output.say(`it can be called at ${taken.address}`)
        if (!taken.known) {
          const address = taken.address === undefined ? '' : ` with 'address: ${taken.address}'`
          output.warn(`${path} does not name ${taken.peer} among its peers yet: add it there${address}`)
        }
      }
      context.done(0)
    })
}

async function readToken(file: string | undefined, signal: AbortSignal): Promise<string> {
  if (file !== undefined) {
    try {
      if ((await stat(file)).size > tokenBytesMax) throw new HotspareError('usage', `${file} holds no token.`)
      return await readFile(file, 'utf8')
    } catch (error) {
      throw describeSystemError(error, `Reading ${file}`)
    }
  }
  if (process.stdin.isTTY) {
    const lines = createInterface({ input: process.stdin, output: process.stderr })
    try {
      return await lines.question('Token: ', { signal })
    } finally {
      lines.close()
    }
  }
  let text = ''
  for await (const piece of process.stdin.setEncoding('utf8')) {
    text += piece
    if (text.length > tokenBytesMax) throw new HotspareError('usage', 'Standard input holds no token.')
  }
  return text
}

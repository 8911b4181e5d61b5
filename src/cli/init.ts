import { existsSync } from 'node:fs'
import { hostname } from 'node:os'
import { resolve } from 'node:path'
import { createInterface } from 'node:readline'
import type { Command } from 'commander'
import { localMachine } from '../daemon/machine.ts'
import { parseServerConfig } from '../daemon/server-config.ts'
import { answersOf, configText, type Question, questions, type SetupStore } from '../daemon/server-setup.ts'
import { detectAll } from '../drivers/registry.ts'
import { HotspareError } from '../os/errors.ts'
import { writeFileDurably } from '../os/storage.ts'
import type { CommandContext } from './command.ts'
import { addCommand, type CommonOptions } from './command.ts'
import { Output, styled } from './output.ts'

const help = `
Asks for what a server of a set must know and writes it, with a word on each line, to be changed by hand
afterwards. An empty answer takes what is proposed. Answers may come from a pipe, a line each.

Examples:
  hotspare init
  hotspare init -c /etc/hotspare/hotspare.yaml`

interface InitOptions extends CommonOptions {
  readonly config: string
  readonly force?: boolean
}

export function registerInit(program: Command, context: CommandContext): void {
  addCommand(program, 'init', "write a server's configuration by asking", help)
    .option('-c, --config <file>', 'where to write it', 'hotspare.yaml')
    .option('--force', 'replace a file that is there')
    .action(async (options: InitOptions) => {
      const output = new Output(options)
      const file = resolve(options.config)
      if (existsSync(file) && !options.force)
        throw new HotspareError('usage', `${file} exists. Change it by hand, or replace it with --force.`)
      const asker = new Asker(context.signal)
      try {
        const text = configText(await ask(asker, output))
        parseServerConfig(text, file)
        await writeFileDurably(localMachine.storage, file, Buffer.from(text))
      } finally {
        asker.close()
      }
      output.object({ config: file })
      output.say(`\n${styled('green', `Written: ${file}`)}`)
      output.say(
        `Next: 'hotspare pair' on both servers, then 'hotspare serve -c ${options.config}' or 'hotspare service install -c ${options.config}'.`,
      )
      context.done(0)
    })
}

async function ask(asker: Asker, output: Output) {
  const given: Record<string, string> = {}
  const name = hostname().split('.')[0] ?? 'alpha'
  for (const question of questions(name)) given[question.key] = await askOne(asker, output, question, given)
  return answersOf(given, await askStores(asker, output))
}

async function askOne(
  asker: Asker,
  output: Output,
  question: Question,
  given: Readonly<Record<string, string>>,
): Promise<string> {
  const preset = question.preset(given)
  if (question.hint !== undefined) output.say(styled('dim', question.hint))
  for (;;) {
    const shown = preset === undefined ? '' : ` [${preset}]`
    const answer = (await asker.line(`${question.text}${shown}: `)) || preset || ''
    const wrong = answer === '' ? 'An answer is needed' : question.wrong(answer)
    if (wrong === undefined) return answer
    output.warn(wrong)
    asker.refuse(wrong)
  }
}

async function askStores(asker: Asker, output: Output): Promise<SetupStore[]> {
  const stores: SetupStore[] = []
  output.say(styled('dim', 'The stores that belong together; an empty answer ends the list.'))
  for (;;) {
    const path = await asker.line(`Path of store ${stores.length + 1}: `)
    if (path === '') {
      if (stores.length > 0) return stores
      output.warn('At least one store is needed')
      asker.refuse('At least one store is needed')
      continue
    }
    const absolute = resolve(path)
    const [found] = existsSync(absolute) ? await detectAll(absolute) : []
    const preset = found?.driver.name
    const driver =
      (await asker.line(`Its driver${preset === undefined ? '' : ` [${preset}]`}: `)) || preset || 'sqlite'
    const profile = found?.driver.name === driver ? found.detection.profile : undefined
    stores.push({ path: absolute, driver, ...(profile === undefined ? {} : { profile }) })
  }
}

/** Lines from a terminal or a pipe. */
class Asker {
  readonly #interface = createInterface({
    input: process.stdin,
    output: process.stderr,
    terminal: process.stdin.isTTY,
  })
  readonly #waiting: string[] = []
  #next: ((line: string | undefined) => void) | undefined
  #ended = false

  constructor(signal: AbortSignal) {
    this.#interface.on('line', line => this.#take(line.trim()))
    this.#interface.on('close', () => {
      this.#ended = true
      this.#take(undefined)
    })
    signal.addEventListener('abort', () => this.#interface.close(), { once: true })
  }

  async line(prompt: string): Promise<string> {
    process.stderr.write(prompt)
    const line =
      this.#waiting.shift() ??
      (this.#ended ? undefined : await new Promise<string | undefined>(resolve => (this.#next = resolve)))
    if (!process.stdin.isTTY) process.stderr.write('\n')
    if (line === undefined)
      throw new HotspareError('usage', 'The answers ended before the questions. Nothing was written.')
    return line
  }

  #take(line: string | undefined): void {
    const next = this.#next
    this.#next = undefined
    if (next !== undefined) next(line)
    else if (line !== undefined) this.#waiting.push(line)
  }

  /** Whoever answers from a pipe does not see what was wrong, and must not be asked for ever. */
  refuse(wrong: string): void {
    if (!process.stdin.isTTY) throw new HotspareError('usage', `${wrong}. Nothing was written.`)
  }

  close(): void {
    this.#interface.close()
  }
}

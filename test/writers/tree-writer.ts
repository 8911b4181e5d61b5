/**
 * An application that keeps its data in a tree, for tests, in a process of its own: makes, changes, renames, links and
 * removes files and directories. Each act has a number, and leaves a file `marks/NUMBER`, the newest `marksMax` of which
 * are kept; after some of them `counter` has the last number. Prints each number that `counter` has got, until it is killed.
 *
 *   node tree-writer.ts DIRECTORY SEED [PAUSE_MS]
 */
import * as fs from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { Random } from '../../src/os/testing/random.ts'
import { lastNumber, marksMax } from './tree-judge.ts'

const [root = '', seed = '1', pauseMs = '20'] = process.argv.slice(2)
const random = new Random(Number(seed))
const actsAtOnce = 20
const files = join(root, 'files')
for (const name of ['marks', 'files']) fs.mkdirSync(join(root, name), { recursive: true })

function directory(): string {
  const first = join(files, `directory ${random.below(12)}`)
  return random.below(3) > 0 ? first : join(first, `deeper ${random.below(3)}`)
}

function file(): string {
  return join(directory(), `file ${random.below(25)}`)
}

function content(): Buffer {
  return random.bytes(1 + random.below(random.pick([20, 3000, 20_000])))
}

const acts: readonly (() => void)[] = [
  () => fs.writeFileSync(file(), content()),
  () => fs.appendFileSync(file(), content()),
  () => {
    const path = file()
    fs.writeFileSync(`${path}.new`, content())
    fs.renameSync(`${path}.new`, path)
  },
  () => {
    const handle = fs.openSync(file(), 'r+')
    try {
      fs.writeSync(handle, content(), 0, null, random.below(30_000))
    } finally {
      fs.closeSync(handle)
    }
  },
  () => fs.mkdirSync(directory(), { recursive: true }),
  () => fs.rmSync(random.below(4) === 0 ? directory() : file(), { recursive: true }),
  () => fs.renameSync(file(), file()),
  () => fs.renameSync(directory(), directory()),
  () => fs.linkSync(file(), file()),
  () => fs.symlinkSync(random.pick(['../elsewhere', 'file 1', '/nowhere/at/all']), file()),
  () => fs.chmodSync(file(), random.pick([0o600, 0o644, 0o755])),
  () => fs.utimesSync(file(), random.below(2_000_000_000), random.below(2_000_000_000)),
  () => fs.truncateSync(file(), random.below(9000)),
]

/** What is not there cannot be changed, and so on. */
function isRefused(error: unknown): boolean {
  const codes = ['ENOENT', 'EEXIST', 'ENOTDIR', 'EISDIR', 'ENOTEMPTY', 'EINVAL', 'ELOOP', 'EPERM', 'EACCES']
  return codes.includes((error as { code?: string }).code ?? '')
}

let number = lastNumber(root)
for (;;) {
  for (let i = 0; i < actsAtOnce; i++) {
    try {
      random.pick(acts)()
    } catch (error) {
      if (!isRefused(error)) throw error
    }
    number++
    fs.writeFileSync(join(root, 'marks', String(number)), `${number}\n`)
    fs.rmSync(join(root, 'marks', String(number - marksMax)), { force: true })
  }
  fs.writeFileSync(join(root, 'counter.new'), `${number}\n`)
  fs.renameSync(join(root, 'counter.new'), join(root, 'counter'))
  fs.writeSync(1, `${number}\n`)
  await sleep(Number(pauseMs))
}

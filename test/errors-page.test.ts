import assert from 'node:assert/strict'
import * as fs from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { type ErrorCode, errorCodes, HotspareError, isTransient } from '../src/os/errors.ts'
import { retryDelayMs } from '../src/stream/retry.ts'

const page = await fs.readFile(join(import.meta.dirname, '../docs/errors.md'), 'utf8')

function rowsUnder(heading: string): string[][] {
  const section = page.split(/^## /m).find(text => text.startsWith(heading))
  assert.ok(section, `docs/errors.md has no section '${heading}'`)
  const lines = section.split('\n').filter(line => line.startsWith('| `'))
  return lines.map(line => line.split(/(?<!\\)\|/).map(cell => cell.trim()))
}

test('the page of errors is the table of errors', () => {
  const shown = rowsUnder('Codes').map(([, code, exit, meaning]) => [code, exit, meaning])
  const table = Object.entries(errorCodes).map(([code, { exit, meaning }]) => [
    `\`${code}\``,
    String(exit),
    meaning,
  ])
  assert.deepEqual(shown, table)
})

test('the page says what follow waits out, how long and how often', () => {
  const shown = rowsUnder('What follow waits out').map(([, code, delay, attempts, once]) => [
    code!.slice(1, code!.indexOf('`', 1)),
    delay,
    attempts,
    once,
  ])
  const waited = Object.keys(errorCodes)
    .map(code => new HotspareError(code as ErrorCode, 'any'))
    .filter(isTransient)
    .map(error => [
      error.code,
      `${Math.max(...delays(error, false)) / 1_000} s`,
      countText(delays(error, false).length),
      countText(delays(error, true).length),
    ])
  assert.deepEqual(shown.sort(), waited.sort())
})

const manyAttempts = 1_000

function delays(error: HotspareError, once: boolean): number[] {
  return Array.from({ length: manyAttempts }, (_, n) => retryDelayMs(error, n + 1, once)).filter(
    delay => delay !== undefined,
  )
}

function countText(count: number): string {
  return count === 0 ? 'none' : count === manyAttempts ? 'without end' : String(count)
}

test('no code shares the exit status of success, of a failed demo or of a bug', () => {
  const taken = Object.values(errorCodes).map(({ exit }) => exit as number)
  for (const reserved of [0, 1, 70, 130, 141]) assert.equal(taken.includes(reserved), false, String(reserved))
})

/** The log of a configuration's server, from outside: shown and verified at any time, changed only while the server is stopped. */
import { resolve } from 'node:path'
import {
  clearLog,
  extractTransaction,
  moveLogStart,
  readLog,
  type ShownTransaction,
  showTransactions,
  verifyLog,
} from '../log/log-tools.ts'
import { readTransactions } from '../log/txlog-file.ts'
import { describeSystemError, HotspareError } from '../os/errors.ts'
import { systemRandom } from '../os/random.ts'
import { localMachine } from './machine.ts'
import type { ServerConfig } from './server-config.ts'

const { storage } = localMachine

function machineOf({ settings }: ServerConfig) {
  return { ...localMachine, random: systemRandom, directory: `${settings.stateDirectory}/log` }
}

/** Those from `from` on, one after another. */
export function showQueue(config: ServerConfig, from: number | undefined): AsyncGenerator<ShownTransaction> {
  return showTransactions(readLog(machineOf(config), from))
}

/** Of a file that was put aside or taken out. It is checked as a whole first. */
export async function* showFile(file: string, from = 0): AsyncGenerator<ShownTransaction> {
  try {
    for await (const shown of showTransactions(readTransactions(storage, resolve(file))))
      if (shown.number >= from) yield shown
  } catch (error) {
    throw describeSystemError(error, `Reading ${file}`)
  }
}

export function verifyQueue(config: ServerConfig): ReturnType<typeof verifyLog> {
  return verifyLog(machineOf(config))
}

/** Nothing that is there is replaced. */
export async function takeOutFirst(
  config: ServerConfig,
  file: string,
  number: number | undefined,
): Promise<{ readonly number: number; readonly path: string }> {
  const path = resolve(file)
  try {
    if ((await storage.stat(path)) !== undefined)
      throw new HotspareError('usage', `${path} is there already. Name a file that is not.`)
    return { ...(await extractTransaction(machineOf(config), path, number)), path }
  } catch (error) {
    throw describeSystemError(error, `Writing ${path}`)
  }
}

/** `log-busy` while the server runs. */
export function clearQueue(config: ServerConfig): ReturnType<typeof clearLog> {
  return clearLog(machineOf(config))
}

/** `log-busy` while the server runs; `log-removed` when the log has no such number. */
export function moveQueue(config: ServerConfig, first: number): ReturnType<typeof moveLogStart> {
  return moveLogStart(machineOf(config), first)
}

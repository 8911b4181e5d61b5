/** A maintenance mode that is switched by HTTP calls. */
import { HotspareError } from '../os/errors.ts'
import { httpCall } from '../os/http-call.ts'
import { readSmallFile, type Storage } from '../os/storage.ts'
import type { Mode } from './mode.ts'
import { type ModeSwitch, reasonOf, type SwitchContext } from './mode-switch.ts'

export async function openHttpSwitch(
  mode: Extract<Mode, { kind: 'http' }>,
  context: SwitchContext,
): Promise<ModeSwitch> {
  const headers = mode.headersFile === undefined ? {} : await readHeaders(context.storage, mode.headersFile)
  const post = async (step: 'enter' | 'leave', url: string, signal: AbortSignal): Promise<void> => {
    const code = step === 'enter' ? 'enter-failed' : 'leave-failed'
    const status = await httpCall({ method: 'POST', url, headers, signal }).catch((error: unknown) => {
      throw new HotspareError(code, `POST ${url}: ${reasonOf(error)}.`, { cause: error })
    })
    if (!isSuccess(status)) throw new HotspareError(code, `POST ${url} was answered with status ${status}.`)
  }
  const { status } = mode
  return {
    async enter(signal) {
      await post('enter', mode.enter, signal)
      return 'ours'
    },
    leave: signal => post('leave', mode.leave, signal),
    verify: status === undefined ? undefined : signal => isOnByHttp(status, headers, signal),
    refresh: undefined,
    leaveByHand: `curl -X POST ${mode.headersFile === undefined ? '' : `-H @${mode.headersFile} `}${mode.leave}`,
  }
}

/** 2xx: on; another answer below 500: off. */
async function isOnByHttp(
  url: string,
  headers: Readonly<Record<string, string>>,
  signal: AbortSignal,
): Promise<boolean> {
  const status = await httpCall({ method: 'GET', url, headers, signal }).catch((error: unknown) => {
    throw new HotspareError('mode-unknown', `GET ${url}: ${reasonOf(error)}.`, { cause: error })
  })
  if (isSuccess(status)) return true
  if (status < 500) return false
  throw new HotspareError('mode-unknown', `GET ${url} was answered with status ${status}.`)
}

const isSuccess = (status: number): boolean => status >= 200 && status < 300

const headersBytesMax = 64 * 1024

/** Throws `usage` when others may read it, since what it is for is secrets. */
async function readHeaders(storage: Storage, path: string): Promise<Record<string, string>> {
  const stat = await storage.stat(path)
  const bytes = await readSmallFile(storage, path, headersBytesMax)
  if (stat === undefined || bytes === undefined) {
    throw new HotspareError('usage', `There is no ${path} to take the HTTP headers from.`)
  }
  if ((stat.mode & 0o077) !== 0) {
    throw new HotspareError('usage', `${path} may be read by others. Say 'chmod 600 ${path}' first.`)
  }
  const headers: Record<string, string> = {}
  for (const line of bytes.toString('utf8').split('\n')) {
    if (line.trim() === '') continue
    const match = /^([!#$%&'*+.^_`|~0-9A-Za-z-]+):\s*(.*?)\s*$/.exec(line)
    if (match?.[1] === undefined || match[2] === undefined) {
      // the line itself may be a secret
      throw new HotspareError('usage', `${path} has a line that is not 'Name: value'.`)
    }
    headers[match[1]] = match[2]
  }
  return headers
}

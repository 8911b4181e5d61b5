/** What the commands of a set's servers share: the configuration that is meant, and how a stopped server stands. */
import { resolve } from 'node:path'
import * as v from 'valibot'
import { HotspareError } from '../os/errors.ts'
import { readSmallFile, type Storage, writeFileDurably } from '../os/storage.ts'
import { parsed, parseJson } from '../replica/meta.ts'
import { readMessages } from '../server/messages.ts'
import type { ServerMessage, ServerStatus } from '../server/server.ts'
import { localMachine } from './machine.ts'
import { callServer } from './server-client.ts'
import { configNameDefault, configPathSystem, readServerConfig, type ServerConfig } from './server-config.ts'

/** `-c FILE`, else hotspare.yaml here, else that of the system. */
export async function findConfig(given: string | undefined): Promise<ServerConfig> {
  const { storage } = localMachine
  if (given !== undefined) return readServerConfig(storage, resolve(given))
  const here = resolve(configNameDefault)
  for (const candidate of [here, configPathSystem])
    if ((await storage.stat(candidate)) !== undefined) return readServerConfig(storage, candidate)
  throw new HotspareError(
    'config-invalid',
    `There is no ${here} and no ${configPathSystem}. 'hotspare init' writes one by asking; name another with -c.`,
  )
}

export interface ServerView {
  readonly running: boolean
  /** Undefined: it never ran. */
  readonly status: ServerStatus | undefined
  /** Newest first. */
  readonly messages: readonly ServerMessage[]
}

/** Of a running server as it is; of a stopped one as it last said of itself. */
export async function viewServer(
  config: ServerConfig,
  messageCount: number,
  signal: AbortSignal,
): Promise<ServerView> {
  const { stateDirectory } = config.settings
  try {
    const status = await callServer<ServerStatus>(stateDirectory, { request: 'status' }, signal)
    const messages = await callServer<ServerMessage[]>(
      stateDirectory,
      { request: 'messages', count: messageCount },
      signal,
    )
    return { running: true, status, messages }
  } catch (error) {
    if (!(error instanceof HotspareError) || error.code !== 'server-stopped') throw error
    const { storage } = localMachine
    const status = await readLast(storage, stateDirectory)
    const messages = await readMessages(storage, stateDirectory, messageCount)
    return { running: false, status, messages }
  }
}

/** `last.json` in the state directory: what `status` shows of a stopped server. Nothing else reads it. */
const lastBytesMax = 1024 * 1024
const lastSchema = v.looseObject({
  set: v.string(),
  name: v.string(),
  role: v.picklist(['primary', 'standby']),
  epoch: v.object({ number: v.number(), by: v.string() }),
  log: v.looseObject({
    first: v.number(),
    next: v.number(),
    bytes: v.number(),
    subscribers: v.array(v.unknown()),
  }),
  stores: v.array(v.unknown()),
  links: v.array(v.unknown()),
})

async function readLast(storage: Storage, stateDirectory: string): Promise<ServerStatus | undefined> {
  const bytes = await readSmallFile(storage, `${stateDirectory}/last.json`, lastBytesMax)
  const json = bytes === undefined ? undefined : parseJson(bytes.toString('utf8'))
  return parsed(lastSchema, json) === undefined ? undefined : (json as ServerStatus)
}

export async function writeLast(storage: Storage, stateDirectory: string, last: ServerStatus): Promise<void> {
  await writeFileDurably(storage, `${stateDirectory}/last.json`, Buffer.from(`${JSON.stringify(last)}\n`))
}

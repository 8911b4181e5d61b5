/**
 * `hotspare.yaml`: what a server of a set keeps, and with whom. Read once at the start; every mistake is named with its
 * place in the file, and what it should be.
 */
import { hostname } from 'node:os'
import { resolve } from 'node:path'
import * as v from 'valibot'
import { type Document, isNode, LineCounter, parseDocument } from 'yaml'
import { driverNamed } from '../drivers/registry.ts'
import { describeSystemError, HotspareError } from '../os/errors.ts'
import { readSmallFile, type Storage } from '../os/storage.ts'
import type { PeerSettings, ServerSettings, StoreSettings } from '../server/server.ts'
import { storeName } from '../stream/entry.ts'
import { parseBytes, parseDuration } from './units.ts'

const configBytesMax = 1024 * 1024
export const configNameDefault = 'hotspare.yaml'
export const configPathSystem = '/etc/hotspare/hotspare.yaml'

/** What the server does not do itself. Commands run by `sh -c`. */
export interface ServerHooks {
  /** Moves the address, starts the application: its store is a live one now. */
  readonly onPromote?: string
  /** Stops the application's writers before a planned hand-over. */
  readonly onDemote?: string
  /** Run for each message of level warning or error, with it in the environment. */
  readonly notify?: string
  readonly timeoutMs: number
}

export interface ServerConfig {
  /** Absolute path of the file. */
  readonly path: string
  readonly settings: ServerSettings
  readonly hooks: ServerHooks
  /** Sends a probe to each peer so often; 0: never. */
  readonly probeEveryMs: number
}

const name = v.pipe(
  v.string(),
  v.regex(/^[A-Za-z0-9._-]{1,64}$/, "must be a name: 1 to 64 of A-Z a-z 0-9 . _ - ('alpha', say)"),
)
const path = v.pipe(v.string(), v.minLength(1, 'must be a path'))
const size = v.pipe(
  v.union([v.string(), v.number()]),
  v.transform(value => (typeof value === 'number' ? value : parseBytes(value))),
  v.number("must be a size: '4GiB', '500MB', or a number of bytes"),
  v.minValue(0, 'must not be negative'),
)
const time = v.pipe(
  v.union([v.string(), v.number()]),
  v.transform(value => (typeof value === 'number' ? value * 1000 : parseDuration(value))),
  v.number("must be a time: '30s', '5m', '12h', or a number of seconds"),
  v.minValue(0, 'must not be negative'),
)
const command = v.pipe(v.string(), v.minLength(1, 'must be a command for the shell'))

const storeSchema = v.strictObject({
  name: v.optional(name),
  path,
  driver: v.pipe(v.string(), v.minLength(1)),
  profile: v.optional(v.string()),
  pattern: v.optional(v.string()),
  'wal-limit': v.optional(size),
})

const schema = v.strictObject({
  set: v.optional(name, 'default'),
  name: v.optional(name),
  role: v.picklist(['primary', 'standby'], "must be 'primary' or 'standby'"),
  state: v.optional(path),
  listen: v.optional(v.string()),
  upstream: v.optional(name),
  stores: v.pipe(v.array(storeSchema), v.minLength(1, 'must name at least one store')),
  peers: v.optional(
    v.array(
      v.strictObject({
        name,
        address: v.optional(v.string()),
        subscriber: v.optional(v.boolean(), true),
      }),
    ),
    [],
  ),
  log: v.optional(
    v.strictObject({
      limit: v.optional(v.pipe(size, v.minValue(1024 * 1024, 'must be at least 1 MiB')), '4GiB'),
      'when-full': v.optional(v.picklist(['block', 'drop'], "must be 'block' or 'drop'"), 'block'),
      'keep-time': v.optional(time, 0),
      'keep-size': v.optional(size, 0),
    }),
    {},
  ),
  cascade: v.optional(v.boolean(), true),
  bandwidth: v.optional(size, 0),
  rejoin: v.optional(v.picklist(['manual', 'automatic'], "must be 'manual' or 'automatic'"), 'manual'),
  'probe-every': v.optional(time, 0),
  'on-promote': v.optional(command),
  'on-demote': v.optional(command),
  notify: v.optional(command),
  'hook-timeout': v.optional(time, '60s'),
})

/** Throws `config-invalid`, naming file, line and what is expected. */
export async function readServerConfig(storage: Storage, file: string): Promise<ServerConfig> {
  const bytes = await readSmallFile(storage, file, configBytesMax).catch(error => {
    throw describeSystemError(error, `Reading ${file}`)
  })
  if (bytes === undefined) {
    throw new HotspareError(
      'config-invalid',
      `There is no ${file}. 'hotspare init' writes one by asking; name another with -c.`,
    )
  }
  return parseServerConfig(bytes.toString('utf8'), file)
}

/** `file` is an absolute path; relative ones in it are relative to its directory. */
export function parseServerConfig(text: string, file: string): ServerConfig {
  const lines = new LineCounter()
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false })
  const [broken] = document.errors
  if (broken !== undefined) throw invalid(file, lines.linePos(broken.pos[0]).line, broken.message)
  const result = v.safeParse(schema, document.toJS() ?? {})
  if (!result.success) {
    const [issue] = result.issues
    const keys = (issue.path ?? []).map(item => item.key as string | number)
    throw invalid(file, lineOf(document, lines, keys), `${keys.join('.') || 'the file'} ${wording(issue)}`)
  }
  const given = result.output
  const at = (keys: readonly (string | number)[], what: string) =>
    invalid(file, lineOf(document, lines, keys), what)
  const directory = file.slice(0, file.lastIndexOf('/')) || '/'
  const serverName = given.name ?? ownName()
  if (given.role === 'standby' && given.upstream === undefined)
    throw at(['role'], "a standby needs 'upstream: NAME', the server that it takes its log from")
  if (given.role === 'primary' && given.upstream !== undefined)
    throw at(['upstream'], 'a primary has no upstream; leave it out, or make it a standby')
  const stores = given.stores.map((store, i) => storeSettings(store, i, directory, at))
  unique(stores, store => store.store, 'name', 'stores', at)
  unique(stores, store => store.path, 'path', 'stores', at)
  unique(given.peers, peer => peer.name, 'name', 'peers', at)
  const self = given.peers.findIndex(peer => peer.name === serverName)
  if (self >= 0) throw at(['peers', self], `'${serverName}' is this server itself`)
  if (given.upstream !== undefined && !given.peers.some(peer => peer.name === given.upstream))
    throw at(['upstream'], `'${given.upstream}' is not among the peers; add it there with its address`)
  for (const [i, peer] of given.peers.entries()) {
    if (peer.address !== undefined && !/^(tcp|ssh):\/\/[^\s]+$/.test(peer.address)) {
      throw at(
        ['peers', i, 'address'],
        `'${peer.address}' is no address: 'tcp://HOST:PORT' or 'ssh://[USER@]HOST' is expected`,
      )
    }
  }
  if (given.listen !== undefined && !/^(\[[0-9a-fA-F:]+\]|[^:\s]+):\d{1,5}$/.test(given.listen))
    throw at(['listen'], `'${given.listen}' is no address to listen at: 'HOST:PORT' is expected`)
  const settings: ServerSettings = {
    set: given.set,
    name: serverName,
    stateDirectory: resolve(directory, given.state ?? `/var/lib/hotspare/${given.set}`),
    role: given.role,
    ...(given.upstream === undefined ? {} : { upstream: given.upstream }),
    stores,
    peers: given.peers.map(
      (peer): PeerSettings => ({
        name: peer.name,
        subscriber: peer.subscriber,
        ...(peer.address === undefined ? {} : { address: peer.address }),
      }),
    ),
    ...(given.listen === undefined ? {} : { listen: given.listen }),
    limits: {
      bytesMax: given.log.limit,
      whenFull: given.log['when-full'],
      keepMs: given.log['keep-time'],
      keepBytes: given.log['keep-size'],
    },
    logStandbyUpdates: given.cascade,
    bandwidthBytesPerSecond: given.bandwidth,
    rejoin: given.rejoin,
  }
  return {
    path: file,
    settings,
    hooks: {
      timeoutMs: given['hook-timeout'],
      ...(given['on-promote'] === undefined ? {} : { onPromote: given['on-promote'] }),
      ...(given['on-demote'] === undefined ? {} : { onDemote: given['on-demote'] }),
      ...(given.notify === undefined ? {} : { notify: given.notify }),
    },
    probeEveryMs: given['probe-every'],
  }
}

type At = (keys: readonly (string | number)[], what: string) => HotspareError

function storeSettings(
  store: v.InferOutput<typeof storeSchema>,
  index: number,
  directory: string,
  at: At,
): StoreSettings {
  const absolute = resolve(directory, store.path)
  const fallback = absolute.slice(absolute.lastIndexOf('/') + 1).replace(/[^A-Za-z0-9._-]/g, '_')
  let driver: ReturnType<typeof driverNamed>
  try {
    driver = driverNamed(store.driver)
  } catch (error) {
    throw at(['stores', index, 'driver'], error instanceof Error ? error.message : String(error))
  }
  const profiles = driver.profiles.map(profile => profile.name)
  if (store.profile !== undefined && !profiles.includes(store.profile)) {
    const known = profiles.length === 0 ? 'It has none' : `It has ${profiles.join(', ')}`
    throw at(
      ['stores', index, 'profile'],
      `the driver '${driver.name}' has no profile '${store.profile}'. ${known}.`,
    )
  }
  return {
    store: storeName((store.name ?? fallback).slice(0, 64)),
    path: absolute,
    driver: driver.name,
    ...(store.profile === undefined ? {} : { profile: store.profile }),
    driverOptions: {
      ...(store.pattern === undefined ? {} : { pattern: store.pattern }),
      ...(store['wal-limit'] === undefined ? {} : { walBytesMax: store['wal-limit'] }),
    },
  }
}

function unique<T>(items: readonly T[], keyOf: (item: T) => string, key: string, list: string, at: At): void {
  const seen = new Set<string>()
  for (const [i, item] of items.entries()) {
    const value = keyOf(item)
    if (seen.has(value)) throw at([list, i, key], `'${value}' is there twice; each ${key} must be another`)
    seen.add(value)
  }
}

function wording(issue: v.BaseIssue<unknown>): string {
  if (issue.expected === 'never') return 'is not known here. docs/standby.md lists what there is'
  if (issue.path?.at(-1)?.value === undefined) return 'is missing'
  return issue.message.startsWith('Invalid')
    ? `must be ${issue.expected}, found ${issue.received}`
    : issue.message
}

/** Of the value, or of the nearest thing around it that is there. */
function lineOf(document: Document, lines: LineCounter, keys: readonly (string | number)[]): number {
  for (let length = keys.length; length >= 0; length--) {
    const node = length === 0 ? document.contents : document.getIn(keys.slice(0, length), true)
    if (isNode(node) && node.range) return lines.linePos(node.range[0]).line
  }
  return 1
}

function invalid(file: string, line: number, what: string): HotspareError {
  return new HotspareError('config-invalid', `${file}, line ${line}: ${what.replace(/\.?$/, '.')}`, {
    details: { path: file, line },
  })
}

function ownName(): string {
  return (
    hostname()
      .split('.')[0]
      ?.replace(/[^A-Za-z0-9_-]/g, '_')
      .slice(0, 64) || 'server'
  )
}

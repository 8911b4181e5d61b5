/**
 * From what the user wrote to what is meant: which driver, where the source really is, where the copy and its
 * sidecar are. Decides only; makes nothing but a directory that was asked for with a trailing '/'.
 */
import type { Driver } from '../drivers/driver.ts'
import { allDrivers, detectAll, driverNamed } from '../drivers/registry.ts'
import { describeSystemError, HotspareError } from '../os/errors.ts'
import { realPath } from '../os/real-path.ts'
import { type FileStat, parentDirectory, type Storage } from '../os/storage.ts'
import { type Meta, readMeta } from '../replica/meta.ts'
import { sidecarPath } from '../replica/sidecar.ts'
import { type StoreName, storeName } from '../stream/entry.ts'
import { refuseOverlap } from './overlap.ts'

export interface FollowRequest {
  /** Absolute paths; a trailing '/' of the target has a meaning. */
  readonly source: string
  readonly target: string
  /** A driver's name; undefined: recognised by the bytes. */
  readonly driver?: string
  readonly profile?: string
  readonly pattern?: string
  readonly resync: boolean
}

export interface FollowPlace {
  readonly driver: Driver
  readonly source: string
  readonly target: string
  readonly meta: Meta
  /** The target has a copy of ours, finished or not. */
  readonly resumed: boolean
}

/**
 * Throws `source-missing`, `source-unknown`, `target-inside-source`, `target-foreign`, `target-other-source`,
 * `target-missing` (its directory), `usage`, `state-damaged`, `state-version`.
 */
export async function locateFollow(storage: Storage, request: FollowRequest): Promise<FollowPlace> {
  const source = await findSource(storage, request.source)
  const known = await findOwnCopy(storage, request.target, fileName(source.given))
  const { driver, profile } = await chooseDriver(storage, source.real, request, known?.meta)
  const target = known?.target ?? (await newTarget(storage, request.target, source.given, driver, profile))
  await refuseOverlap(storage, source.real, target)
  if (known === undefined) await refuseForeign(storage, target, driver, request.resync)
  else refuseOther(known.meta, driver, profile, source, target, request)
  const pattern = request.pattern ?? known?.meta.pattern
  return {
    driver,
    source: source.real,
    target,
    resumed: known !== undefined,
    meta: {
      driver: driver.name,
      source: source.given,
      sourceReal: source.real,
      store: known?.meta.store ?? nameOf(source.given),
      ...(profile === undefined ? {} : { profile }),
      ...(pattern === undefined ? {} : { pattern }),
    },
  }
}

export interface CopyPlace {
  readonly driver: Driver
  readonly target: string
  readonly sidecar: string
  readonly meta: Meta
}

/** A copy that hotspare made: by its own name, without '.rdm', or as the only one in the directory that is named. */
export async function locateCopy(storage: Storage, path: string): Promise<CopyPlace> {
  const found = (await findOwnCopy(storage, path)) ?? (await onlyCopyIn(storage, path))
  if (found === undefined) {
    const real = await realPath(storage, path)
    const stat = await storage.stat(real)
    throw new HotspareError(
      'target-missing',
      stat === undefined
        ? `There is no copy at ${real}. Make one with 'hotspare follow SOURCE ${real}'.`
        : `${real} is not a copy that hotspare keeps: there is no ${sidecarPath(real)} beside it.`,
    )
  }
  const { target, meta } = found
  return { driver: driverNamed(meta.driver), target, meta, sidecar: sidecarPath(target) }
}

/** The name that a one-file store gets in a directory; a directory's copy is the directory itself. */
export async function resolveDestination(
  storage: Storage,
  destination: string,
  ownName: string,
  driver: Driver,
): Promise<string> {
  const real = await realPath(storage, destination)
  const stat = await storage.stat(real)
  const intoDirectory = stat?.kind === 'directory' || destination.endsWith('/')
  if (!driver.capabilities.singleFile || !intoDirectory) {
    await requireDirectory(storage, parentDirectory(real))
    return real
  }
  if (stat === undefined) {
    await requireDirectory(storage, parentDirectory(real))
    await storage.makeDirectory(real, 0o755)
    await storage.syncDirectory(parentDirectory(real))
  }
  return realPath(storage, `${real}/${ownName}`)
}

interface FoundSource {
  readonly given: string
  readonly real: string
}

async function findSource(storage: Storage, path: string): Promise<FoundSource> {
  const given = path.replace(/(?<=.)\/+$/, '')
  for (const candidate of [given, `${given}.rdm`]) {
    const real = await realPath(storage, candidate)
    let stat: FileStat | undefined
    try {
      stat = await storage.stat(real)
    } catch (error) {
      throw describeSystemError(error, `Looking at the source ${candidate}`)
    }
    if (stat !== undefined) return { given: candidate.split('/').includes('..') ? real : candidate, real }
  }
  throw new HotspareError('source-missing', `There is no ${given}.`, { details: { path: given } })
}

interface OwnCopy {
  readonly target: string
  readonly meta: Meta
}

async function findOwnCopy(storage: Storage, target: string, ownName?: string): Promise<OwnCopy | undefined> {
  const plain = target.replace(/(?<=.)\/+$/, '')
  const candidates = [plain, `${plain}.rdm`, ...(ownName === undefined ? [] : [`${plain}/${ownName}`])]
  for (const candidate of candidates) {
    const real = await realPath(storage, candidate)
    const meta = await metaOf(storage, real)
    if (meta !== undefined) return { target: real, meta }
  }
  return undefined
}

async function metaOf(storage: Storage, target: string): Promise<Meta | undefined> {
  try {
    return await readMeta(storage, sidecarPath(target))
  } catch (error) {
    throw describeSystemError(error, `Reading the state of the copy ${target}`)
  }
}

async function onlyCopyIn(storage: Storage, path: string): Promise<OwnCopy | undefined> {
  const directory = await realPath(storage, path)
  if ((await storage.stat(directory))?.kind !== 'directory') return undefined
  const found: OwnCopy[] = []
  for (const latin1 of await storage.list(directory)) {
    const name = Buffer.from(latin1, 'latin1').toString('utf8')
    if (!name.endsWith('.hotspare')) continue
    const target = `${directory}/${name.slice(0, -'.hotspare'.length)}`
    const meta = await metaOf(storage, target)
    if (meta !== undefined) found.push({ target, meta })
  }
  if (found.length > 1) {
    const names = found.map(copy => fileName(copy.target)).sort()
    throw new HotspareError(
      'usage',
      `${directory} holds ${found.length} copies: ${names.join(', ')}. Name one of them.`,
    )
  }
  return found[0]
}

interface Choice {
  readonly driver: Driver
  readonly profile?: string
}

async function chooseDriver(
  storage: Storage,
  source: string,
  request: FollowRequest,
  meta: Meta | undefined,
): Promise<Choice> {
  const driver = driverAskedFor(request) ?? (meta === undefined ? undefined : driverNamed(meta.driver))
  const profile = request.profile ?? (request.pattern === undefined ? meta?.profile : 'generic')
  if (driver === undefined) return detectDriver(storage, source)
  if (profile !== undefined) {
    const known = driver.profiles.map(candidate => candidate.name)
    if (!known.includes(profile)) {
      const has = known.length === 0 ? 'It has none' : `It has ${known.join(', ')}`
      throw new HotspareError('usage', `The driver '${driver.name}' has no profile '${profile}'. ${has}.`)
    }
    return { driver, profile }
  }
  const detected = await driver.detect(source)
  return detected?.profile === undefined ? { driver } : { driver, profile: detected.profile }
}

function driverAskedFor(request: FollowRequest): Driver | undefined {
  if (request.driver !== undefined) return driverNamed(request.driver)
  const profile = request.profile ?? (request.pattern === undefined ? undefined : 'generic')
  if (profile === undefined) return undefined
  const found = allDrivers().find(driver => driver.profiles.some(({ name }) => name === profile))
  if (found !== undefined) return found
  const known = allDrivers().flatMap(driver => driver.profiles.map(({ name }) => name))
  throw new HotspareError('usage', `There is no profile '${profile}'. Profiles: ${known.join(', ')}.`)
}

async function detectDriver(storage: Storage, source: string): Promise<Choice> {
  const [first, second] = await detectAll(source).catch(error => {
    throw describeSystemError(error, `Looking at what ${source} is`)
  })
  if (first === undefined) {
    if (await isEmpty(storage, source)) {
      throw new HotspareError('source-missing', `${source} is empty: nothing to recognise yet.`)
    }
    throw new HotspareError(
      'source-unknown',
      `No driver recognises ${source}. 'hotspare drivers' lists what there is; name one with --driver.`,
    )
  }
  if (second !== undefined && second.detection.confidence === first.detection.confidence) {
    throw new HotspareError(
      'usage',
      `${source} may be ${first.driver.name} (${first.detection.reason}) or ${second.driver.name} (${second.detection.reason}). Name one with --driver.`,
    )
  }
  const { profile } = first.detection
  return profile === undefined ? { driver: first.driver } : { driver: first.driver, profile }
}

async function isEmpty(storage: Storage, path: string): Promise<boolean> {
  const stat = await storage.stat(path)
  if (stat?.kind === 'directory') return (await storage.list(path)).length === 0
  return stat?.kind === 'file' && stat.size === 0
}

async function newTarget(
  storage: Storage,
  target: string,
  source: string,
  driver: Driver,
  profile: string | undefined,
): Promise<string> {
  const resolved = await resolveDestination(storage, target, fileName(source), driver)
  const rdm = profile === 'rdm' && source.endsWith('.rdm') && !resolved.endsWith('.rdm')
  return rdm && (await storage.stat(resolved)) === undefined ? `${resolved}.rdm` : resolved
}

async function requireDirectory(storage: Storage, path: string): Promise<void> {
  if ((await storage.stat(path))?.kind === 'directory') return
  throw new HotspareError(
    'target-missing',
    `There is no directory ${path} to put the copy in. Make it first (or mount it).`,
  )
}

async function refuseForeign(
  storage: Storage,
  target: string,
  driver: Driver,
  resync: boolean,
): Promise<void> {
  const stat = await storage.stat(target)
  if (stat === undefined || resync) return
  const free = !driver.capabilities.singleFile && (await isEmpty(storage, target))
  if (free && stat.kind === 'directory') return
  throw new HotspareError(
    'target-foreign',
    `${target} exists and hotspare did not make it. Choose another target, or say --resync to turn it into a copy (what differs is overwritten).`,
  )
}

/** A mistyped source must not turn the copy of one store into the copy of another. */
function refuseOther(
  meta: Meta,
  driver: Driver,
  profile: string | undefined,
  source: FoundSource,
  target: string,
  request: FollowRequest,
): void {
  if (meta.driver !== driver.name || meta.profile !== profile) {
    const label = (name: string, of?: string) => (of === undefined ? name : `${name}, profile ${of}`)
    throw new HotspareError(
      'target-other-source',
      `${target} was made by the driver ${label(meta.driver, meta.profile)}, not ${label(driver.name, profile)}. Choose another target.`,
    )
  }
  const same = meta.source === source.given || meta.sourceReal === source.real
  if (!same && !request.resync) {
    throw new HotspareError(
      'target-other-source',
      `${target} is a copy of ${meta.source}, not of ${source.given}. If the store has moved, say --resync once; else choose another target.`,
    )
  }
}

function fileName(path: string): string {
  return path.slice(path.lastIndexOf('/') + 1)
}

function nameOf(source: string): StoreName {
  const name = fileName(source)
    .replace(/[^A-Za-z0-9._-]/g, '_')
    .slice(0, 64)
  return storeName(name === '' ? 'store' : name)
}

/**
 * The peers that a server is paired with: `peers/NAME.json` in its state directory, mode 0600, each written durably in
 * one step. What is lost with such a file is the pairing: the two servers refuse each other until they are paired anew.
 */
import * as v from 'valibot'
import { describeSystemError, HotspareError, isSystemError } from '../os/errors.ts'
import { readSmallFile, type Storage, writeFileDurably } from '../os/storage.ts'
import { type KnownPeer, type PeerTrust, secretBytes } from './trust.ts'

const formatVersion = 1
const fileBytesMax = 16 * 1024

const name = v.pipe(v.string(), v.regex(/^[A-Za-z0-9._-]{1,64}$/))
const fileSchema = v.object({
  v: v.literal(formatVersion),
  name,
  secret: v.pipe(v.string(), v.regex(/^[A-Za-z0-9_-]{43}$/)),
  certificate: v.optional(v.pipe(v.string(), v.regex(/^[0-9a-f]{64}$/))),
})

export interface StoredPeer extends KnownPeer {
  readonly name: string
}

export class PeerStore implements PeerTrust {
  readonly #storage: Storage
  readonly #directory: string
  /** A peer may prove itself in two connections at once: one after the other writes its file. */
  #writing: Promise<unknown> = Promise.resolve()

  constructor(storage: Storage, stateDirectory: string) {
    this.#storage = storage
    this.#directory = `${stateDirectory}/peers`
  }

  /** Undefined: not paired. Rejects with `state-damaged` when its file is not what was written. */
  async peer(peerName: string): Promise<StoredPeer | undefined> {
    if (!v.is(name, peerName) || /^\.+$/.test(peerName)) return undefined
    const path = this.#path(peerName)
    const bytes = await readSmallFile(this.#storage, path, fileBytesMax).catch(error => {
      throw describeSystemError(error, `Reading ${path}`)
    })
    if (bytes === undefined) return undefined
    const result = v.safeParse(fileSchema, parseJson(bytes.toString('utf8')))
    if (!result.success || result.output.name !== peerName) {
      throw new HotspareError(
        'state-damaged',
        `${path} is not what 'hotspare pair' writes. Pair the two servers again.`,
        { details: { path } },
      )
    }
    const { secret, certificate } = result.output
    return {
      name: peerName,
      secret: Buffer.from(secret, 'base64url'),
      ...(certificate !== undefined && { certificate }),
    }
  }

  /** Replaces what was known of this peer. Durable when it resolves. */
  save(peer: StoredPeer): Promise<void> {
    return this.#inTurn(() => this.#save(peer))
  }

  async #save(peer: StoredPeer): Promise<void> {
    if (peer.secret.length !== secretBytes) throw new Error(`a secret has ${secretBytes} bytes`)
    const { certificate } = peer
    const file: v.InferOutput<typeof fileSchema> = {
      v: formatVersion,
      name: v.parse(name, peer.name),
      secret: Buffer.from(peer.secret).toString('base64url'),
      ...(certificate !== undefined && { certificate }),
    }
    await this.#storage.makeDirectory(this.#directory)
    const bytes = Buffer.from(`${JSON.stringify(file, undefined, 2)}\n`)
    await writeFileDurably(this.#storage, this.#path(peer.name), bytes)
  }

  pin(peerName: string, certificate: string): Promise<void> {
    return this.#inTurn(async () => {
      const known = await this.peer(peerName)
      if (known === undefined || known.certificate === certificate) return
      if (known.certificate !== undefined)
        throw new Error(`'${peerName}' has had another certificate since a moment ago`)
      await this.#save({ ...known, certificate })
    })
  }

  #inTurn(work: () => Promise<void>): Promise<void> {
    const done = this.#writing.then(work)
    // whoever asked for it hears of it
    this.#writing = done.catch(() => undefined)
    return done
  }

  async names(): Promise<string[]> {
    const files = await this.#storage.list(this.#directory).catch(error => {
      if (isSystemError(error, 'ENOENT')) return []
      throw describeSystemError(error, `Reading ${this.#directory}`)
    })
    return files
      .filter(file => file.endsWith('.json'))
      .map(file => file.slice(0, -'.json'.length))
      .sort()
  }

  #path(peerName: string): string {
    return `${this.#directory}/${peerName}.json`
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

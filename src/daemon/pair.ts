/**
 * Makes two servers of a set known to each other. The first makes a token and keeps its secret; the second takes the token.
 * The second knows the first by its certificate from then on; the first learns the second's on the first connection that
 * proves the secret, and knows it by that from then on.
 *
 * Run twice, or after a crash between the two: the newer secret counts, and a server that still has an older one is
 * refused until it has taken the newer token.
 */
import { ownCertificate } from '../link/certificate.ts'
import { type PairToken, pairTokenText, parsePairToken } from '../link/pair-token.ts'
import { PeerStore } from '../link/peer-store.ts'
import { secretBytes } from '../link/trust.ts'
import { HotspareError } from '../os/errors.ts'
import type { Random } from '../os/random.ts'
import type { Storage } from '../os/storage.ts'
import type { ServerSettings } from '../server/server.ts'

export interface MadePairing {
  readonly peer: string
  readonly token: string
  /** Of this server's certificate. */
  readonly fingerprint: string
  /** The configuration here names this peer. */
  readonly known: boolean
}

export interface MakePairingOptions {
  readonly settings: ServerSettings
  readonly peer: string
  /** Where the other server can call this one, if it can. */
  readonly address?: string
  /** It is paired already, and that is to end. */
  readonly again: boolean
}

export async function makePairing(
  storage: Storage,
  random: Random,
  options: MakePairingOptions,
): Promise<MadePairing> {
  const { settings, peer, address } = options
  checkPeer(settings, peer)
  const store = new PeerStore(storage, settings.stateDirectory)
  if (!options.again && (await hasPeer(store, peer))) {
    throw new HotspareError(
      'usage',
      `This server is paired with '${peer}' already. With --again the two are paired anew, and until '${peer}' has the new token they do not talk.`,
    )
  }
  const own = await ownCertificate(storage, settings.stateDirectory, settings.name)
  const secret = random.bytes(secretBytes)
  const token: PairToken = {
    set: settings.set,
    from: settings.name,
    to: peer,
    secret,
    certificate: own.fingerprint,
    ...(address !== undefined && { address }),
  }
  await store.save({ name: peer, secret })
  return {
    peer,
    token: pairTokenText(token),
    fingerprint: own.fingerprint,
    known: settings.peers.some(({ name }) => name === peer),
  }
}

export interface TakenPairing {
  readonly peer: string
  /** Of the peer's certificate. */
  readonly fingerprint: string
  /** Where the token says that it can be called. */
  readonly address?: string
  readonly known: boolean
}

export async function takePairing(
  storage: Storage,
  settings: ServerSettings,
  text: string,
): Promise<TakenPairing> {
  const token = parsePairToken(text)
  if (token.set !== settings.set) {
    throw new HotspareError(
      'usage',
      `The token is of the set '${token.set}', and this server's is '${settings.set}'. Both need the same 'set:' in their configuration.`,
    )
  }
  if (token.to !== settings.name) {
    throw new HotspareError(
      'usage',
      `The token is for a server named '${token.to}', and this one is '${settings.name}'. Make one with 'hotspare pair ${settings.name}', or set 'name:' here.`,
    )
  }
  checkPeer(settings, token.from)
  await ownCertificate(storage, settings.stateDirectory, settings.name)
  const store = new PeerStore(storage, settings.stateDirectory)
  await store.save({ name: token.from, secret: token.secret, certificate: token.certificate })
  return {
    peer: token.from,
    fingerprint: token.certificate,
    known: settings.peers.some(({ name }) => name === token.from),
    ...(token.address !== undefined && { address: token.address }),
  }
}

function checkPeer(settings: ServerSettings, peer: string): void {
  if (!/^[A-Za-z0-9._-]{1,64}$/.test(peer) || /^\.+$/.test(peer))
    throw new HotspareError('usage', `A server's name has 1 to 64 of A-Z a-z 0-9 . _ -; found '${peer}'.`)
  if (peer === settings.name)
    throw new HotspareError('usage', `'${peer}' is this server itself. Name the other one.`)
}

/** A file that cannot be read is there all the same. */
async function hasPeer(store: PeerStore, peer: string): Promise<boolean> {
  return (await store.names()).includes(peer)
}

/** What a server's links use of this machine: TLS with its own certificate, ssh, the peers that it is paired with. */

import { type OwnCertificate, ownCertificate } from '../link/certificate.ts'
import type { Compressor } from '../link/compression.ts'
import { PeerStore } from '../link/peer-store.ts'
import { type LocalServer, listenLocal } from '../os/local-socket.ts'
import { SocketStream } from '../os/socket-stream.ts'
import { SshTransport } from '../os/ssh-transport.ts'
import type { Storage } from '../os/storage.ts'
import { TcpTransport } from '../os/tcp-transport.ts'
import type { ByteStream, Transport } from '../os/transport.ts'
import { zstdCompressor } from '../os/zstd.ts'

/** In the state directory: where `hotspare link --stdio`, run by a caller's ssh, passes bytes to. */
export const linkSocketName = 'link'

export interface LinkMachine {
  readonly transport: Transport
  readonly trust: PeerStore
  readonly compressor: Compressor
  readonly certificate: OwnCertificate
}

/** Makes the server's certificate when there is none. */
export async function openLinkMachine(
  storage: Storage,
  stateDirectory: string,
  server: string,
  environment: NodeJS.ProcessEnv = process.env,
): Promise<LinkMachine> {
  const certificate = await ownCertificate(storage, stateDirectory, server)
  const tcp = new TcpTransport(certificate)
  // as git and rsync have it: the program, and options for it
  const command = environment.HOTSPARE_SSH?.split(' ').filter(word => word !== '')
  const ssh = new SshTransport(command?.length ? command : undefined)
  return {
    transport: {
      connect: (address, signal) =>
        address.startsWith('ssh://') ? ssh.connect(address, signal) : tcp.connect(address, signal),
      listen: (address, onConnection) => tcp.listen(address, onConnection),
    },
    trust: new PeerStore(storage, stateDirectory),
    compressor: zstdCompressor,
    certificate,
  }
}

/** Takes callers that come by ssh. The socket's mode lets in nobody but the server's own user. */
export function listenForStdio(
  stateDirectory: string,
  accept: (stream: ByteStream) => void,
): Promise<LocalServer> {
  return listenLocal(stateDirectory, linkSocketName, socket => {
    socket.on('error', () => socket.destroy())
    accept(new SocketStream(socket, socket, { peer: 'ssh', close: () => socket.destroySoon() }))
  })
}

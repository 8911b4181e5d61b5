/**
 * Unix sockets by the directory that they are in: a socket's address has at most 107 bytes, a path may have more, so
 * it is reached through a descriptor of the directory.
 */
import { chmod, type FileHandle, open, rm } from 'node:fs/promises'
import { connect, createServer, type Server, type Socket } from 'node:net'

export interface LocalServer {
  /** No more connections; those that are open are ended. The name is removed. */
  close(): Promise<void>
}

/** Whatever has the name is replaced: the caller knows that nobody else listens there. Mode 0600. */
export async function listenLocal(
  directory: string,
  name: string,
  onConnection: (socket: Socket) => void,
): Promise<LocalServer> {
  const handle = await open(directory, 'r')
  const path = pathThrough(handle, name)
  const sockets = new Set<Socket>()
  try {
    await rm(path, { force: true })
    const server = createServer(socket => {
      sockets.add(socket)
      socket.once('close', () => sockets.delete(socket))
      onConnection(socket)
    })
    await listening(server, path)
    await chmod(path, 0o600)
    return {
      async close() {
        const closed = new Promise<void>(resolve => server.close(() => resolve()))
        for (const socket of sockets) socket.destroy()
        await closed
        await rm(path, { force: true })
        await handle.close()
      },
    }
  } catch (error) {
    await handle.close()
    throw error
  }
}

/** Undefined when nobody listens there. */
export async function connectLocal(directory: string, name: string): Promise<Socket | undefined> {
  const handle = await open(directory, 'r')
  try {
    return await new Promise<Socket | undefined>((resolve, reject) => {
      const socket = connect(pathThrough(handle, name))
      socket.once('connect', () => {
        socket.removeAllListeners('error')
        resolve(socket)
      })
      socket.once('error', (error: NodeJS.ErrnoException) => {
        if (error.code === 'ENOENT' || error.code === 'ECONNREFUSED') resolve(undefined)
        else reject(error)
      })
    })
  } finally {
    await handle.close()
  }
}

function pathThrough(directory: FileHandle, name: string): string {
  return `/proc/self/fd/${directory.fd}/${name}`
}

function listening(server: Server, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen(path, () => {
      server.removeAllListeners('error')
      resolve()
    })
  })
}

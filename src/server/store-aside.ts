/**
 * A whole store put aside as it stands, for what no log has of it: nobody may write to it meanwhile. Blocks are shared
 * with it where the file system can. A crash leaves a temporary name, which the next attempt removes.
 */
import { parentDirectory, type Storage } from '../os/storage.ts'

/** What an engine has beside a database of one file. */
const sideFileSuffixes = ['', '-wal', '-journal']
const copyBytes = 1024 * 1024

/** `target` becomes a directory that holds it under its own name. Durable when it resolves. */
export async function putStoreAside(storage: Storage, path: string, target: string): Promise<void> {
  const temporary = `${target}.tmp`
  await storage.removeTree(temporary)
  await storage.makeDirectory(temporary)
  const name = path.slice(path.lastIndexOf('/') + 1)
  for (const suffix of sideFileSuffixes)
    await copyNode(storage, Buffer.from(path + suffix), Buffer.from(`${temporary}/${name}${suffix}`))
  await storage.syncDirectory(temporary)
  await storage.rename(temporary, target)
  await storage.syncDirectory(parentDirectory(target))
}

async function copyNode(storage: Storage, from: Buffer, to: Buffer): Promise<void> {
  const stat = await storage.stat(from)
  switch (stat?.kind) {
    case 'directory': {
      await storage.makeDirectory(to, stat.mode & 0o7777)
      for (const name of await storage.list(from)) await copyNode(storage, below(from, name), below(to, name))
      return storage.syncDirectory(to)
    }
    case 'symlink':
      return storage.symlink(await storage.readlink(from), to)
    case 'file':
      return copyFile(storage, from, to, stat.mode & 0o7777)
    default:
      // a socket or a pipe carries no data
      return
  }
}

async function copyFile(storage: Storage, from: Buffer, to: Buffer, mode: number): Promise<void> {
  const source = await storage.open(from, 'read')
  try {
    const target = await storage.open(to, 'create-new', mode)
    try {
      if (!(await storage.reflink(source, target))) {
        const buffer = Buffer.alloc(copyBytes)
        for (let offset = 0; ; ) {
          const read = await source.read(buffer, offset)
          if (read > 0) await target.write(buffer.subarray(0, read), offset)
          offset += read
          if (read < buffer.length) break
        }
      }
      await target.sync('everything')
    } finally {
      await target.close()
    }
  } finally {
    await source.close()
  }
}

/** `name` is bytes in latin1. */
function below(directory: Buffer, name: string): Buffer {
  return Buffer.concat([directory, Buffer.from(`/${name}`, 'latin1')])
}

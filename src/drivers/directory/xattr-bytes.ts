/** Extended attributes as they go from a scanning thread to the main one. */
import { ByteReader, ByteWriter } from '../../stream/bytes.ts'

const xattrBytesMax = 64 * 1024

export function encodeXattrs(xattrs: Readonly<Record<string, Uint8Array>>): Buffer {
  const names = Object.keys(xattrs)
  const writer = new ByteWriter().integer(names.length)
  for (const name of names) writer.latin1(name).bytes(xattrs[name] as Uint8Array)
  return writer.finish()
}

/** Values are copies. */
export function decodeXattrs(bytes: Uint8Array): Record<string, Buffer> {
  const reader = new ByteReader(bytes)
  const xattrs: Record<string, Buffer> = {}
  for (let left = reader.integer('extended attributes'); left > 0; left--) {
    const name = reader.latin1('the name of an extended attribute', 255)
    xattrs[name] = Buffer.from(reader.bytes('an extended attribute', xattrBytesMax))
  }
  return xattrs
}

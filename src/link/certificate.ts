/**
 * A server's own certificate: an Ed25519 key, and a self-signed X.509 v3 certificate around it (RFC 5280, RFC 8410).
 * Nobody checks what it says: it is known by its fingerprint, and only carries the key through TLS. So it never ends.
 * We only ever write one; what comes from others is parsed by OpenSSL.
 */
import {
  createHash,
  createPrivateKey,
  generateKeyPairSync,
  randomBytes,
  sign,
  X509Certificate,
} from 'node:crypto'
import { describeSystemError, HotspareError } from '../os/errors.ts'
import { readSmallFile, type Storage, writeFileDurably } from '../os/storage.ts'

export interface OwnCertificate {
  /** PEM. */
  readonly key: string
  readonly certificate: string
  /** SHA-256 of the certificate, 64 hex digits. */
  readonly fingerprint: string
}

const fileBytesMax = 64 * 1024

/** Of the server whose state directory it is: made at the first call. One file, mode 0600, durable when it resolves. */
export async function ownCertificate(
  storage: Storage,
  stateDirectory: string,
  server: string,
): Promise<OwnCertificate> {
  const path = `${stateDirectory}/link.pem`
  try {
    const bytes = await readSmallFile(storage, path, fileBytesMax)
    if (bytes !== undefined) return parse(bytes.toString('latin1'), path)
    const made = makeCertificate(server)
    await storage.makeDirectory(stateDirectory)
    await writeFileDurably(storage, path, Buffer.from(made.key + made.certificate, 'latin1'))
    return made
  } catch (error) {
    throw describeSystemError(error, `Keeping the certificate in ${path}`)
  }
}

function parse(pem: string, path: string): OwnCertificate {
  try {
    const begin = pem.indexOf('-----BEGIN CERTIFICATE-----')
    const key = pem.slice(0, begin)
    const certificate = pem.slice(begin)
    const parsed = new X509Certificate(certificate)
    if (!parsed.checkPrivateKey(createPrivateKey(key))) throw new Error('the key is another')
    return { key, certificate, fingerprint: fingerprintOf(parsed.raw) }
  } catch (cause) {
    throw new HotspareError(
      'state-damaged',
      `${path} does not hold this server's key and certificate. Remove it, and pair the server with its peers again.`,
      { cause, details: { path } },
    )
  }
}

export function makeCertificate(commonName: string): OwnCertificate {
  const { privateKey, publicKey } = generateKeyPairSync('ed25519')
  const ed25519 = sequence(objectIdentifier(0x2b, 0x65, 0x70)) // 1.3.101.112
  const name = sequence(
    element(
      0x31,
      sequence(objectIdentifier(0x55, 0x04, 0x03), element(0x0c, Buffer.from(commonName, 'utf8'))), // 2.5.4.3, UTF8String
    ),
  )
  const serial = randomBytes(16)
  serial[0] = ((serial[0] as number) & 0x7f) | 0x40 // positive, and in its shortest form
  const body = sequence(
    element(0xa0, element(0x02, Buffer.from([2]))), // version 3
    element(0x02, serial),
    ed25519,
    name,
    // from long ago, for hosts whose clocks differ; to the date that stands for no end
    sequence(
      element(0x17, Buffer.from('200101000000Z', 'latin1')),
      element(0x18, Buffer.from('99991231235959Z', 'latin1')),
    ),
    name,
    publicKey.export({ type: 'spki', format: 'der' }),
  )
  const signature = sign(undefined, body, privateKey)
  const der = sequence(body, ed25519, element(0x03, Buffer.concat([Buffer.from([0]), signature])))
  return {
    key: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
    certificate: new X509Certificate(der).toString(),
    fingerprint: fingerprintOf(der),
  }
}

function fingerprintOf(der: Uint8Array): string {
  return createHash('sha256').update(der).digest('hex')
}

/** An element of DER: tag, length, content. */
function element(tag: number, content: Uint8Array): Buffer {
  const { length } = content
  const head =
    length < 0x80
      ? [tag, length]
      : length < 0x100
        ? [tag, 0x81, length]
        : [tag, 0x82, length >> 8, length & 0xff]
  return Buffer.concat([Buffer.from(head), content])
}

function sequence(...elements: Uint8Array[]): Buffer {
  return element(0x30, Buffer.concat(elements))
}

function objectIdentifier(...bytes: number[]): Buffer {
  return element(0x06, Buffer.from(bytes))
}

/** The manifest of a Redis 7 multi-part append-only file: lines of `file NAME seq N type b|i|h`. */
import { displayPath } from '../../stream/entry.ts'

export interface ManifestFile {
  /** Bytes in latin1. */
  readonly name: string
  readonly sequence: number
  readonly type: 'base' | 'incremental' | 'history'
}

const types = { b: 'base', i: 'incremental', h: 'history' } as const
const line = /^file (".*"|\S+) seq (\d+) type ([bih])(?: .*)?$/

/** Undefined and a reason when the bytes are no whole, valid manifest. */
export function parseManifest(
  bytes: Buffer,
): { readonly files: readonly ManifestFile[] } | { readonly invalid: string } {
  const text = bytes.toString('latin1')
  if (text === '') return { invalid: 'it is empty' }
  if (!text.endsWith('\n')) return { invalid: 'its last line is not complete' }
  const files: ManifestFile[] = []
  for (const [index, row] of text.slice(0, -1).split('\n').entries()) {
    if (row.startsWith('#')) continue
    const match = line.exec(row)
    if (match === null) return { invalid: `line ${index + 1} is '${displayPath(row)}'` }
    const name = unquote(match[1]!)
    if (name === '' || name.includes('/'))
      return { invalid: `line ${index + 1} names '${displayPath(name)}'` }
    files.push({ name, sequence: Number(match[2]), type: types[match[3] as keyof typeof types] })
  }
  if (files.filter(file => file.type === 'base').length > 1) return { invalid: 'it names two base files' }
  const incremental = files.filter(file => file.type === 'incremental')
  for (const [index, file] of incremental.entries()) {
    if (index > 0 && file.sequence <= incremental[index - 1]!.sequence)
      return {
        invalid: `incremental file ${file.sequence} does not follow ${incremental[index - 1]!.sequence}`,
      }
  }
  return { files }
}

const escapes: Readonly<Record<string, string>> = { n: '\n', r: '\r', t: '\t', a: '\x07', b: '\b' }

/** Names with odd characters are written as Redis's sdscatrepr does. */
function unquote(name: string): string {
  if (!name.startsWith('"')) return name
  return name
    .slice(1, -1)
    .replace(/\\(?:x([0-9a-f]{2})|(.))/gi, (_, hex: string | undefined, letter: string) =>
      hex === undefined ? (escapes[letter] ?? letter) : String.fromCharCode(Number.parseInt(hex, 16)),
    )
}

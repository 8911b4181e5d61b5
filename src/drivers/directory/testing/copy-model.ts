/** What a copy is to be after some changes, worked out in memory; and what is there, seen by a walker of its own. */
import { createHash } from 'node:crypto'
import fs from 'node:fs'
import { getXattr, listXattrs } from '../../../os/attributes.ts'
import type { AttributesChange, Change } from '../../../stream/entry.ts'

interface ModelFile {
  kind: 'file'
  data: Buffer
  attributes: Attributes
}
interface ModelDirectory {
  kind: 'directory'
  attributes: Attributes
}
interface ModelLink {
  kind: 'symlink'
  target: string
  attributes: Attributes
}
export type ModelNode = ModelFile | ModelDirectory | ModelLink
type Attributes = Pick<AttributesChange, 'mode' | 'mtimeNs' | 'xattrs'>

export class CopyModel {
  readonly nodes = new Map<string, ModelNode>([['', { kind: 'directory', attributes: {} }]])
  readonly #versions = new Map<string, ModelFile>()

  apply(change: Change): void {
    const { nodes } = this
    const version = this.#versions.get(change.path)
    switch (change.type) {
      case 'replace':
        this.#versions.set(change.path, newFile())
        return
      case 'replaced':
        this.#remove(change.path)
        nodes.set(change.path, version as ModelFile)
        this.#versions.delete(change.path)
        return
      case 'write': {
        const file = version ?? this.#file(change.path)
        const end = change.offset + change.data.length
        if (change.data.length > 0 && end > file.data.length) file.data = grown(file.data, end)
        else file.data = Buffer.from(file.data)
        if (change.data.length > 0) file.data.set(change.data, change.offset)
        return
      }
      case 'truncate': {
        const file = version ?? this.#file(change.path)
        file.data =
          change.size > file.data.length
            ? grown(file.data, change.size)
            : Buffer.from(file.data.subarray(0, change.size))
        return
      }
      case 'attributes': {
        const node = version ?? (nodes.get(change.path) as ModelNode)
        node.attributes = { ...node.attributes, ...picked(change) }
        return
      }
      case 'remove':
        this.#remove(change.path)
        return
      case 'rename': {
        this.#remove(change.to)
        for (const [path, node] of [...nodes]) {
          if (!within(path, change.path)) continue
          nodes.delete(path)
          nodes.set(change.to + path.slice(change.path.length), node)
        }
        return
      }
      case 'node': {
        const { node } = change
        if (node.kind === 'directory') {
          if (nodes.get(change.path)?.kind === 'directory') return
          this.#remove(change.path)
          nodes.set(change.path, { kind: 'directory', attributes: {} })
        } else if (node.kind === 'symlink') {
          const before = nodes.get(change.path)
          if (before?.kind === 'symlink' && before.target === node.target) return
          this.#remove(change.path)
          nodes.set(change.path, { kind: 'symlink', target: node.target, attributes: {} })
        } else {
          const target = nodes.get(node.to) as ModelFile
          if (nodes.get(change.path) === target) return
          this.#remove(change.path)
          nodes.set(change.path, target)
        }
        return
      }
      default:
        throw new Error(`not modelled: ${change.type}`)
    }
  }

  #file(path: string): ModelFile {
    const there = this.nodes.get(path)
    if (there?.kind === 'file') return there
    this.#remove(path)
    const made = newFile()
    this.nodes.set(path, made)
    return made
  }

  #remove(path: string): void {
    for (const each of [...this.nodes.keys()]) if (within(each, path)) this.nodes.delete(each)
  }

  /** One line for each name, as `describeTree` gives them. What nobody asked for is not in it. */
  describe(): Map<string, string> {
    const firsts = new Map<ModelNode, string>()
    const lines = new Map<string, string>()
    for (const path of [...this.nodes.keys()].sort()) {
      const node = this.nodes.get(path) as ModelNode
      const first = firsts.get(node)
      if (first === undefined) firsts.set(node, path)
      const { mode, mtimeNs, xattrs } = node.attributes
      const content = node.kind === 'file' ? digest(node.data) : node.kind === 'symlink' ? node.target : ''
      lines.set(
        path,
        line(
          node.kind,
          node.kind === 'symlink' ? undefined : mode,
          mtimeNs,
          xattrs ?? {},
          content,
          node.kind === 'file' ? (first ?? path) : path,
        ),
      )
    }
    return lines
  }
}

const cut = 120

function line(
  kind: string,
  mode: number | undefined,
  mtimeNs: bigint | undefined,
  xattrs: Readonly<Record<string, Uint8Array>>,
  content: string,
  first: string,
): string {
  const listed = Object.keys(xattrs)
    .sort()
    .map(name => `${name}=${Buffer.from(xattrs[name] as Uint8Array).toString('hex')}`)
  return [kind, mode?.toString(8) ?? '*', mtimeNs ?? '*', listed.join(','), content, first]
    .join(' ')
    .slice(0, 1000 + cut)
}

/** What is really there; `asked` says of what nobody asked for a mode or a time, so that it is left out. */
export function describeTree(root: string, asked?: ReadonlyMap<string, string>): Map<string, string> {
  const lines = new Map<string, string>()
  const firsts = new Map<string, string>()
  const paths: string[] = []
  const list = (path: string): void => {
    paths.push(path)
    const native = nativeOf(root, path)
    if (!fs.lstatSync(native).isDirectory()) return
    for (const name of fs.readdirSync(native, { encoding: 'latin1' }) as string[])
      list(path === '' ? name : `${path}/${name}`)
  }
  list('')
  for (const path of paths.sort()) {
    const native = nativeOf(root, path)
    const stat = fs.lstatSync(native, { bigint: true })
    const kind = stat.isFile()
      ? 'file'
      : stat.isDirectory()
        ? 'directory'
        : stat.isSymbolicLink()
          ? 'symlink'
          : 'other'
    const wanted = asked?.get(path)?.split(' ')
    const xattrs: Record<string, Uint8Array> = {}
    for (const name of listXattrs(native)) {
      const value = getXattr(native, name)
      if (value !== undefined) xattrs[name] = value
    }
    let first = path
    if (kind === 'file' && stat.nlink > 1n) {
      first = firsts.get(String(stat.ino)) ?? path
      firsts.set(String(stat.ino), first)
    }
    const content =
      kind === 'file'
        ? digest(fs.readFileSync(native))
        : kind === 'symlink'
          ? fs.readlinkSync(native, { encoding: 'latin1' })
          : ''
    lines.set(
      path,
      line(
        kind,
        kind === 'symlink' || wanted?.[1] === '*' ? undefined : Number(stat.mode & 0o7777n),
        wanted?.[2] === '*' ? undefined : stat.mtimeNs,
        xattrs,
        content,
        first,
      ),
    )
  }
  return lines
}

function nativeOf(root: string, path: string): Buffer {
  return Buffer.concat([Buffer.from(root), Buffer.from(path === '' ? '' : `/${path}`, 'latin1')])
}

function digest(data: Buffer): string {
  return `${data.length}:${createHash('sha1').update(data).digest('hex')}`
}

function newFile(): ModelFile {
  return { kind: 'file', data: Buffer.alloc(0), attributes: {} }
}

function grown(data: Buffer, size: number): Buffer {
  const more = Buffer.alloc(size)
  data.copy(more)
  return more
}

function within(path: string, directory: string): boolean {
  return path === directory || path.startsWith(`${directory}/`)
}

function picked({ mode, mtimeNs, xattrs }: AttributesChange): Attributes {
  return {
    ...(mode === undefined ? {} : { mode }),
    ...(mtimeNs === undefined ? {} : { mtimeNs }),
    ...(xattrs === undefined ? {} : { xattrs }),
  }
}

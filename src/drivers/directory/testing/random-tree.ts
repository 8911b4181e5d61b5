/** Random edits of a real tree, from numbers that a seed determines: everything that a file system lets one do. */
import { execFileSync } from 'node:child_process'
import fs from 'node:fs'
import { join } from 'node:path'
import { setXattr } from '../../../os/attributes.ts'

export type Random = (below: number) => number

type NativePath = Buffer

const sizes = [0, 1, 100, 3000, 4096, 70_000, 1_048_575, 1_048_576, 1_048_577, 3_500_000]

export class RandomTree {
  readonly root: Buffer
  readonly #random: Random
  #numbers = 0
  readonly log: string[] = []

  constructor(root: string, random: Random) {
    this.root = Buffer.from(root)
    this.#random = random
  }

  /**
   * `only`: no link is made that may be gone again when the tree is looked at, since a change through such a name gives
   * no event for the names that stay.
   */
  edit(only: 'anything' | 'links-made' | 'links-broken' = 'anything'): void {
    const breaking: (() => void)[] = [
      () => this.#rename(),
      () => this.#rename(),
      () => this.#remove(),
      () => this.#breakLink(),
      () => this.#changeKind(),
    ]
    const linking: (() => void)[] = [() => this.#link(), () => this.#link()]
    const acts: (() => void)[] = [
      ...(only === 'links-made' ? [] : breaking),
      ...(only === 'links-broken' ? [] : linking),
      () => this.#create(),
      () => this.#create(),
      () => this.#makeDirectory(),
      () => this.#rewrite(),
      () => this.#rewriteSameTimes(),
      () => this.#append(),
      () => this.#truncate(),
      () => this.#patch(),
      () => this.#hole(),
      () => this.#symlink(),
      () => this.#mode(),
      () => this.#owner(),
      () => this.#xattr(),
      () => this.#acl(),
      () => this.#times(),
      () => this.#special(),
      () => this.#deep(),
    ]
    const act = acts[this.#random(acts.length)] as () => void
    this.log.push(act.toString().slice(6))
    act()
  }

  #pick<T>(all: readonly T[]): T | undefined {
    return all[this.#random(all.length)]
  }

  #walk(wanted: (stat: fs.Stats) => boolean, rootToo = false): NativePath[] {
    const found: NativePath[] = []
    const visit = (path: Buffer): void => {
      for (const name of fs.readdirSync(path, { encoding: 'buffer' }).sort(Buffer.compare)) {
        const child = Buffer.concat([path, Buffer.from('/'), name])
        const stat = fs.lstatSync(child)
        if (wanted(stat)) found.push(child)
        if (stat.isDirectory()) visit(child)
      }
    }
    if (rootToo) found.push(this.root)
    visit(this.root)
    return found
  }

  #files(): NativePath[] {
    return this.#walk(stat => stat.isFile())
  }

  #directory(): NativePath {
    return this.#pick(this.#walk(stat => stat.isDirectory(), true)) as NativePath
  }

  #fresh(): NativePath {
    const number = ++this.#numbers
    const odd = [
      Buffer.from(`f${number}`),
      Buffer.from(`ä ${number}`),
      Buffer.from([0xff, 0xe4, 0x30 + (number % 10), 0x61 + this.#random(26)]),
      Buffer.from(`new\nline${number}`),
      Buffer.from(`-${number}`),
      Buffer.from(`d${number % 7}`),
    ]
    return Buffer.concat([this.#directory(), Buffer.from('/'), this.#pick(odd) as Buffer])
  }

  #content(): Buffer {
    const size = this.#pick(sizes) as number
    const bytes = Buffer.alloc(size)
    for (let at = 0; at < size; at += 1 + this.#random(2000)) bytes[at] = this.#random(256)
    return bytes
  }

  #create(): void {
    const path = this.#fresh()
    if (!fs.existsSync(path) && fs.lstatSync(path, { throwIfNoEntry: false }) === undefined)
      fs.writeFileSync(path, this.#content())
  }

  #makeDirectory(): void {
    const path = this.#fresh()
    if (fs.lstatSync(path, { throwIfNoEntry: false }) === undefined) fs.mkdirSync(path)
  }

  #rewrite(): void {
    const file = this.#pick(this.#files())
    if (file !== undefined) fs.writeFileSync(file, this.#content())
  }

  /** Other content of the same size, and the times of before. */
  #rewriteSameTimes(): void {
    const file = this.#pick(this.#files())
    if (file === undefined) return
    const { size, atime, mtime } = fs.statSync(file)
    fs.writeFileSync(file, Buffer.alloc(size, this.#random(256)), { flag: 'r+' })
    fs.utimesSync(file, atime, mtime)
  }

  #append(): void {
    const file = this.#pick(this.#files())
    if (file !== undefined) fs.appendFileSync(file, this.#content())
  }

  #truncate(): void {
    const file = this.#pick(this.#files())
    if (file !== undefined)
      fs.truncateSync(file, this.#random(2) === 0 ? this.#pick(sizes) : this.#random(5_000_000))
  }

  #patch(): void {
    const file = this.#pick(this.#files())
    if (file === undefined) return
    const fd = fs.openSync(file, 'r+')
    fs.writeSync(fd, Buffer.from('patched'), 0, 7, this.#random(fs.fstatSync(fd).size + 1))
    fs.closeSync(fd)
  }

  #hole(): void {
    const path = this.#fresh()
    if (fs.lstatSync(path, { throwIfNoEntry: false }) !== undefined) return
    const fd = fs.openSync(path, 'w')
    fs.ftruncateSync(fd, this.#random(9_000_000))
    if (this.#random(2) === 0) fs.writeSync(fd, Buffer.alloc(5000, 7), 0, 5000, this.#random(6_000_000))
    fs.closeSync(fd)
  }

  #rename(): void {
    const from = this.#pick(this.#walk(() => true))
    const to = this.#random(3) === 0 ? this.#pick(this.#walk(() => true)) : this.#fresh()
    if (from === undefined || to === undefined) return
    try {
      fs.renameSync(from, to)
    } catch {
      // a directory into itself, or onto what is not empty: nothing happens
    }
  }

  #remove(): void {
    const path = this.#pick(this.#walk(() => true))
    if (path !== undefined) fs.rmSync(path as unknown as string, { recursive: true })
  }

  #link(): void {
    const file = this.#pick(this.#files())
    const path = this.#fresh()
    if (file !== undefined && fs.lstatSync(path, { throwIfNoEntry: false }) === undefined)
      fs.linkSync(file, path)
  }

  /** A name of several gets a file of its own, with the same content or another. */
  #breakLink(): void {
    const file = this.#pick(this.#walk(stat => stat.isFile() && stat.nlink > 1))
    if (file === undefined) return
    const content = this.#random(2) === 0 ? fs.readFileSync(file) : this.#content()
    fs.rmSync(file as unknown as string)
    fs.writeFileSync(file, content)
  }

  #symlink(): void {
    const path = this.#fresh()
    if (fs.lstatSync(path, { throwIfNoEntry: false }) !== undefined) return
    const target = this.#pick([
      Buffer.from('nowhere'),
      Buffer.from('.'),
      Buffer.from([0xfe, 0x2f]),
      this.#directory(),
    ])
    fs.symlinkSync(target as Buffer, path)
  }

  #changeKind(): void {
    const path = this.#pick(this.#walk(() => true))
    if (path === undefined) return
    fs.rmSync(path as unknown as string, { recursive: true })
    const kind = this.#random(3)
    if (kind === 0) fs.mkdirSync(path)
    else if (kind === 1) fs.writeFileSync(path, this.#content())
    else fs.symlinkSync('elsewhere', path)
  }

  #mode(): void {
    const path = this.#pick(this.#walk(stat => !stat.isSymbolicLink(), true))
    if (path !== undefined)
      fs.chmodSync(path, this.#pick([0o600, 0o644, 0o755, 0o4755, 0o2711, 0o000, 0o1777]) as number)
  }

  #owner(): void {
    const path = this.#pick(this.#walk(() => true, true))
    if (path !== undefined && process.geteuid?.() === 0) fs.lchownSync(path, this.#random(3), this.#random(3))
  }

  #xattr(): void {
    const path = this.#pick(this.#walk(stat => stat.isFile() || stat.isDirectory()))
    if (path === undefined) return
    if (this.#random(3) === 0) {
      for (const name of ['user.a', 'user.b'])
        try {
          execFileSync('setfattr', ['-x', name, '--', path as unknown as string], { stdio: 'ignore' })
        } catch {
          // it had none
        }
    } else
      setXattr(
        path,
        this.#random(2) === 0 ? 'user.a' : 'user.b',
        this.#content().subarray(0, this.#random(1000)),
      )
  }

  #acl(): void {
    const path = this.#pick(this.#walk(stat => stat.isFile() || stat.isDirectory()))
    // a program's arguments are text
    if (path === undefined || !Buffer.from(path.toString()).equals(path)) return
    const what = this.#random(2) === 0 ? ['-b'] : ['-m', `u:${1000 + this.#random(3)}:rw`]
    execFileSync('setfacl', [...what, '--', path.toString()])
  }

  #times(): void {
    const path = this.#pick(this.#walk(stat => !stat.isSymbolicLink(), true))
    if (path !== undefined)
      fs.utimesSync(path, new Date(), new Date(this.#random(2_000_000_000) * 500 - 5000))
  }

  #special(): void {
    const path = this.#fresh()
    if (
      fs.lstatSync(path, { throwIfNoEntry: false }) === undefined &&
      Buffer.from(path.toString()).equals(path)
    )
      execFileSync('mkfifo', ['--', path.toString()])
  }

  #deep(): void {
    if (this.#random(4) !== 0) return
    const depth = 30
    const deep = `deep${++this.#numbers}`
    const parts = Array.from({ length: depth }, (_, i) => `x${i}`)
    fs.mkdirSync(join(this.root.toString(), deep, ...parts), { recursive: true })
  }
}

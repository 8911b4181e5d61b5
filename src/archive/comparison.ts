/**
 * Compares an archive with a copy, member by member: both are in the order of their paths, so one walk over both finds
 * what is missing, what is too much, and what differs. The copy's content is read and proved on the way.
 */
import type { Snapshot, SnapshotEntry } from '../drivers/snapshot.ts'
import { displayPath } from '../stream/entry.ts'
import { xattrRecord } from './acl-text.ts'
import { markedDigest } from './archive-mark.ts'
import { contentDigest } from './content-digest.ts'
import type { TarMember } from './tar-member.ts'

export interface FaultTaker {
  add(what: string): void
}

export class Comparison {
  readonly #entries: AsyncGenerator<SnapshotEntry>
  readonly #faults: FaultTaker
  #entry: SnapshotEntry | undefined
  #began = false

  constructor(snapshot: Snapshot, faults: FaultTaker) {
    this.#entries = entriesOf(snapshot)
    this.#faults = faults
  }

  async #next(): Promise<void> {
    const { value, done } = await this.#entries.next()
    this.#entry = done === true ? undefined : value
  }

  /** The archive's next member, with the digest of its content as a mark has it. */
  async take(member: TarMember, digest: string | undefined): Promise<void> {
    if (!this.#began) await this.#next()
    this.#began = true
    const key = keyOfMember(member)
    while (this.#entry !== undefined && keyOfEntry(this.#entry) < key) {
      this.#missing(this.#entry)
      await this.#next()
    }
    if (this.#entry === undefined || keyOfEntry(this.#entry) !== key) {
      this.#faults.add(`'${displayPath(member.path)}' stands in the archive and not in the copy`)
      return
    }
    const differing = differences(member, digest, this.#entry)
    if (differing.length > 0)
      this.#faults.add(`'${displayPath(member.path)}' differs from the copy: ${differing.join(', ')}`)
    await this.#next()
  }

  async finish(): Promise<void> {
    if (!this.#began) await this.#next()
    this.#began = true
    while (this.#entry !== undefined) {
      this.#missing(this.#entry)
      await this.#next()
    }
  }

  #missing({ path }: SnapshotEntry): void {
    this.#faults.add(`'${displayPath(path)}' stands in the copy and not in the archive`)
  }
}

async function* entriesOf(snapshot: Snapshot): AsyncGenerator<SnapshotEntry> {
  for await (const batch of snapshot.batches()) {
    try {
      for (const entry of batch.entries) {
        yield entry
        // the copy is proved to be what was recorded
        if (entry.kind === 'file' && entry.stream !== undefined) for await (const _ of entry.stream());
      }
    } finally {
      batch.release()
    }
  }
}

/** So that both sides have the same order: see `Snapshot.batches`. */
function keyOfEntry({ path, kind }: SnapshotEntry): string {
  return kind === 'directory' && path !== '' ? `${path}/` : path
}

function keyOfMember({ path, kind }: TarMember): string {
  // a copy that is one file has its own name there
  if (!path.startsWith('./')) return ''
  const inside = path.slice(2)
  return kind === 'directory' && inside !== '' && !inside.endsWith('/') ? `${inside}/` : inside
}

function differences(member: TarMember, digest: string | undefined, entry: SnapshotEntry): string[] {
  const differing: string[] = []
  if (member.kind !== entry.kind) return [`it is a ${member.kind}, and a ${entry.kind} in the copy`]
  if (member.mode !== entry.mode) differing.push('mode')
  if (member.uid !== entry.uid || member.gid !== entry.gid) differing.push('owner')
  const isSameTime =
    member.mtimeSeconds === entry.mtimeSeconds && member.mtimeNanoseconds === entry.mtimeNanoseconds
  if (!isSameTime) differing.push('time')
  if (entry.kind === 'symlink' && member.link !== entry.target) differing.push('where it leads')
  if (entry.kind === 'hardlink' && member.link !== `./${entry.to}`) differing.push('what it is a link to')
  if (entry.kind !== 'hardlink' && attributesOf(member.attributes) !== attributesOfEntry(entry))
    differing.push('extended attributes')
  if (entry.kind === 'file') {
    const wanted = markedDigest(contentDigest(entry.digests))
    if (member.size !== entry.size || digest !== wanted) differing.push('content')
  }
  return differing
}

function attributesOf(attributes: TarMember['attributes']): string {
  return attributes
    .map(([keyword, value]) => `${keyword}=${value}`)
    .sort()
    .join('\0')
}

function attributesOfEntry({ xattrs }: SnapshotEntry): string {
  return attributesOf(Object.entries(xattrs ?? {}).map(([name, value]) => xattrRecord(name, value)))
}

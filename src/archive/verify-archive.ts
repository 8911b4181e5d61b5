/**
 * Reads an archive whole, and says whether it is what was written: of one of ours every byte is proved, of another what
 * its format can prove. With a snapshot of a copy, that it is this copy as well.
 */
import type { Snapshot } from '../drivers/snapshot.ts'
import type { Storage } from '../os/storage.ts'
import { ArchiveInput, type ArchiveInputOptions } from './archive-input.ts'
import { Comparison } from './comparison.ts'
import type { ArchiveFormat } from './compression.ts'
import { describe } from './read-back.ts'
import type { TarMember } from './tar-member.ts'
import { TarReader } from './tar-reader.ts'

/** So many faults are named; more are counted. */
const namedMax = 100

export interface ArchiveFinding {
  readonly ok: boolean
  readonly what: string
}

export interface ArchiveVerification {
  /** True only when all that can be proved holds. */
  readonly valid: boolean
  readonly findings: readonly ArchiveFinding[]
  readonly format: ArchiveFormat
  readonly members: number
  /** Of the files' content, holes included. */
  readonly bytes: number
  /** Of the archive file. */
  readonly archiveBytes: number
}

export async function examineArchive(
  storage: Storage,
  path: string,
  options: ArchiveInputOptions,
  snapshot?: Snapshot,
): Promise<ArchiveVerification> {
  const input = await ArchiveInput.open(storage, path, options)
  try {
    const faults = new FaultList()
    const comparison = snapshot === undefined ? undefined : new Comparison(snapshot, faults)
    let bytes = 0
    let ready: [TarMember, string | undefined][] = []
    const reader = new TarReader({
      onMember(member, digest) {
        bytes += member.kind === 'file' ? member.size : 0
        if (comparison !== undefined) ready.push([member, digest])
      },
      onFault: fault => faults.add(describe(fault)),
    })
    for await (const chunk of input.chunks()) {
      reader.push(chunk)
      for (const [member, digest] of ready) await comparison?.take(member, digest)
      ready = []
    }
    if (input.fault === undefined) reader.end()
    else faults.add(`the file: ${input.fault}; ${reader.members} members stand before that`)
    // what could not be read is not missing
    if (input.fault === undefined) await comparison?.finish()
    const { members, isOwn } = reader
    const valid = faults.count === 0
    return {
      valid,
      findings: [
        ...faults.findings(),
        ...(valid ? [proofOf(isOwn), ...(comparison === undefined ? [] : [sameAsCopy])] : []),
      ],
      format: input.format,
      members,
      bytes,
      archiveBytes: input.fileBytes,
    }
  } finally {
    await input.close()
  }
}

const sameAsCopy: ArchiveFinding = {
  ok: true,
  what: 'it is the same as the copy: every path, all metadata, all content',
}

function proofOf(isOwn: boolean): ArchiveFinding {
  return isOwn
    ? { ok: true, what: 'every header and every content is what was written, and no member is missing' }
    : {
        ok: true,
        what: 'every header has the right checksum, and the archive has its end; it was not made by hotspare, so contents have no digests to compare with',
      }
}

class FaultList {
  readonly #named: string[] = []
  count = 0

  add(what: string): void {
    this.count++
    if (this.#named.length < namedMax) this.#named.push(what)
  }

  findings(): ArchiveFinding[] {
    const more = this.count - this.#named.length
    const named = more > 0 ? [...this.#named, `and ${more} more`] : this.#named
    return named.map(what => ({ ok: false, what }))
  }
}

/** What stands in an archive, member by member; contents are passed over. */
import { HotspareError } from '../os/errors.ts'
import type { Storage } from '../os/storage.ts'
import { ArchiveInput, type ArchiveInputOptions } from './archive-input.ts'
import type { TarMember } from './tar-member.ts'
import { type TarFault, TarReader } from './tar-reader.ts'

/** Ends with `archive-damaged` where the archive cannot be read on. */
export async function* membersOf(
  storage: Storage,
  path: string,
  options: ArchiveInputOptions,
): AsyncGenerator<TarMember> {
  const input = await ArchiveInput.open(storage, path, options)
  try {
    let members: TarMember[] = []
    let fault: TarFault | undefined
    const reader = new TarReader({
      headersOnly: true,
      onMember: member => members.push(member),
      onFault: found => {
        fault ??= found
      },
    })
    for await (const chunk of input.chunks()) {
      reader.push(chunk)
      const ready = members
      members = []
      yield* ready
    }
    if (input.fault === undefined) reader.end()
    const what = input.fault ?? fault?.what
    if (what !== undefined)
      throw new HotspareError(
        'archive-damaged',
        `${path} is damaged: ${what}. See 'hotspare archive --verify'.`,
      )
  } finally {
    await input.close()
  }
}

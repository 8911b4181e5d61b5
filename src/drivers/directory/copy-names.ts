import { DirectoryReader } from '../../os/directory-reader.ts'
import { cName, openFlag } from '../../os/tree-calls.ts'
import type { CopyCalls } from './copy-calls.ts'

/** The names in a directory whose descriptor may have been read before. */
export function listNames(calls: CopyCalls, directory: number): string[] {
  const fd = calls.openAt(directory, cName('.'), openFlag.read | openFlag.directory)
  try {
    const reader = new DirectoryReader()
    reader.start(fd)
    const names: string[] = []
    while (reader.step())
      names.push(reader.buffer.toString('latin1', reader.nameStart, reader.nameStart + reader.nameLength))
    return names
  } finally {
    calls.closeFd(fd)
  }
}

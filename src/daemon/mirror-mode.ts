import { isWithin, realPath } from '../os/real-path.ts'
import { parentDirectory, type Storage } from '../os/storage.ts'
import { entryPathFromText } from '../stream/entry.ts'
import { type ApplicationMode, applicationNamed, flagTextDefault } from './applications.ts'
import type { Mode } from './mode.ts'
import { absolutePath } from './paths.ts'

/** How the application's maintenance mode is switched. */
export type MirrorMode =
  | {
      readonly kind: 'app'
      readonly name: string
      /** Where it is installed; the source unless told otherwise. */
      readonly directory?: string
      readonly user?: string
      readonly flagFile?: string
      readonly flagText?: string
    }
  | Extract<Mode, { kind: 'commands' | 'http' }>
  | { readonly kind: 'flag-file'; readonly path: string; readonly text?: string }

/** A file that appears says nothing of the requests that had begun before. */
const flagSettleMs = 100

/** What was asked for, with absolute paths. Throws `usage`. */
export function applicationOf(wanted: MirrorMode, source: string): ApplicationMode {
  switch (wanted.kind) {
    case 'app': {
      const { user, flagFile, flagText } = wanted
      return applicationNamed(wanted.name).mode({
        directory: wanted.directory === undefined ? source : absolutePath(wanted.directory),
        ...(user === undefined ? {} : { user }),
        ...(flagFile === undefined ? {} : { flagFile: absolutePath(flagFile) }),
        ...(flagText === undefined ? {} : { flagText }),
      })
    }
    case 'flag-file': {
      const text = wanted.text ?? flagTextDefault
      return { mode: { kind: 'flag-file', path: absolutePath(wanted.path), text }, settleMs: flagSettleMs }
    }
    default:
      return { mode: located(wanted), settleMs: 0 }
  }
}

/** A lease is acted on by a process that was started elsewhere. */
function located(mode: Extract<Mode, { kind: 'commands' | 'http' }>): Mode {
  if (mode.kind === 'http') {
    const { headersFile } = mode
    return headersFile === undefined ? mode : { ...mode, headersFile: absolutePath(headersFile) }
  }
  const here = <C extends { directory?: string | undefined }>(command: C): C => ({
    ...command,
    directory: absolutePath(command.directory ?? '.'),
  })
  const { enter, leave, verify, refresh } = mode
  return {
    kind: 'commands',
    enter: here(enter),
    leave: here(leave),
    ...(verify === undefined ? {} : { verify: here(verify) }),
    ...(refresh === undefined ? {} : { refresh: here(refresh) }),
  }
}

/**
 * The flag file of ours that lies in the source, as the copy would name it. A copy that had it would be in maintenance mode
 * itself when it is put to use.
 */
export async function ownFlagFile(storage: Storage, source: string, mode: Mode): Promise<string[]> {
  if (mode.kind !== 'flag-file') return []
  const parent = await realPath(storage, parentDirectory(mode.path))
  if (!isWithin(parent, source)) return []
  const path = `${parent}${mode.path.slice(mode.path.lastIndexOf('/'))}`
  return [entryPathFromText(path.slice(source.length + 1))]
}

/**
 * Any directory of append-only files whose ascending names are the order in which they were written. With a pattern,
 * only the files that match it; without one, all of them.
 */
import { HotspareError } from '../../os/errors.ts'
import { compareBytes, fileNames, otherNames, type Profile } from './profile.ts'
import { profileSummaries } from './profile-summaries.ts'

export function genericProfile(pattern?: string): Profile {
  const matches = pattern === undefined ? undefined : globToRegExp(pattern)
  return {
    name: 'generic',
    summary: profileSummaries.generic,
    vanished: 'finish',
    tailMayShrink: false,
    ...(pattern === undefined ? {} : { pattern }),
    compare: compareBytes,
    async layout(view) {
      return {
        packs: fileNames(view).filter(name => matches === undefined || matches.test(name)),
        wholes: [],
        trees: [],
        leftOut: matches === undefined ? otherNames(view) : [],
      }
    },
    // any directory would do: it has to be asked for
    async detect() {
      return undefined
    },
  }
}

/** `*`, `?`, `[a-z]`, `[!a-z]` and `{a,b}` over a name's bytes (latin1). */
export function globToRegExp(glob: string): RegExp {
  if (glob === '' || glob.includes('/')) {
    throw new HotspareError(
      'usage',
      `--pattern is a pattern for file names, such as 'log.*'; found '${glob}'.`,
    )
  }
  const bytes = Buffer.from(glob, 'utf8').toString('latin1')
  let depth = 0
  const body = bytes.replace(/\[(!?)([^\]]+)\]|[\s\S]/g, (part, not: string | undefined, set: string) => {
    if (not !== undefined) return `[${not === '' ? '' : '^'}${set.replace(/[\\^[\]]/g, '\\$&')}]`
    if (part === '*') return '[\\s\\S]*'
    if (part === '?') return '[\\s\\S]'
    if (part === '{') {
      depth++
      return '(?:'
    }
    if (part === '}' && depth > 0) {
      depth--
      return ')'
    }
    if (part === ',' && depth > 0) return '|'
    return part.replace(/[\\^$.|?*+()[\]{}]/, '\\$&')
  })
  if (depth > 0) throw new HotspareError('usage', `--pattern '${glob}' opens '{' and does not close it.`)
  return new RegExp(`^${body}$`)
}

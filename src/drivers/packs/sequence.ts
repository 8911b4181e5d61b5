/**
 * Nothing may be missing between what the copy has and what the source has. Where the engine numbers its packs without
 * gaps, each must follow the one before it; elsewhere at least the pack that was being copied must still be there.
 */
import { HotspareError } from '../../os/errors.ts'
import { displayPath, type EntryPath } from '../../stream/entry.ts'
import type { Profile } from './profile.ts'

export interface Continuity {
  /** The newest pack that the copy has. */
  readonly newest: { readonly path: EntryPath; readonly finished: boolean } | undefined
  /** The packs that can be read now, in order. */
  readonly packs: readonly EntryPath[]
  /** All packs up to this number may be missing: a tree stands for them. */
  readonly coveredTo?: number | undefined
}

/** How what can be read now goes on from what the copy has. */
export type Succession = { readonly kind: 'continues' } | { readonly kind: 'covered'; readonly upTo: number }

/** Throws `gap`, naming what is missing, when something is. */
export function checkSuccession(profile: Profile, root: string, now: Continuity): Succession {
  if (profile.vanished === 'drop') return { kind: 'continues' }
  const { newest, packs } = now
  const number = profile.sequenceNumber?.bind(profile) ?? (() => undefined)
  const coveredTo = now.coveredTo ?? -1
  let succession: Succession = { kind: 'continues' }

  function missing(from: number, to: number): void {
    if (to <= coveredTo) {
      succession = { kind: 'covered', upTo: coveredTo }
      return
    }
    const count = to - from + 1
    const names = count === 1 ? `pack number ${from}` : `packs number ${from} to ${to}`
    throw gapError(root, names, { first: from, last: to })
  }

  for (const [index, path] of packs.entries()) {
    const before = index === 0 ? undefined : packs[index - 1]!
    const here = number(path)
    const previous = before === undefined ? undefined : number(before)
    if (here !== undefined && previous !== undefined && here > previous + 1) missing(previous + 1, here - 1)
  }

  if (newest === undefined || packs.includes(newest.path)) return succession
  const newestNumber = number(newest.path)
  const next = packs.find(path => profile.compare(path, newest.path) > 0)
  const nextNumber = next === undefined ? undefined : number(next)
  if (newestNumber !== undefined && newestNumber <= coveredTo) return { kind: 'covered', upTo: coveredTo }
  if (!newest.finished)
    throw gapError(root, `the end of pack ${displayPath(newest.path)}`, { pack: newest.path })
  if (newestNumber !== undefined && nextNumber !== undefined && nextNumber > newestNumber + 1) {
    missing(newestNumber + 1, nextNumber - 1)
  }
  return succession
}

function gapError(root: string, what: string, details: Record<string, unknown>): HotspareError {
  return new HotspareError(
    'gap',
    `${root} no longer has ${what}: it was deleted before it was copied. The copy stays as it is; use --resync to make it like the source again.`,
    { details: { path: root, ...details } },
  )
}

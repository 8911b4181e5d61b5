/** Where in a copy's sidecar things stand (see copy-opening.ts), and paths within a copy (latin1, '' its root). */

export function copyPlaces(sidecar: string) {
  return {
    log: `${sidecar}/state.log`,
    first: `${sidecar}/first`,
    stage: `${sidecar}/stage`,
    kept: `${sidecar}/kept`,
  }
}

// one path is asked for many times in turn, and one directory for many paths: the same string is found quicker in maps
let lastPath = ''
let lastParent = ''
let lastName = ''

function split(path: string): void {
  const cut = path.lastIndexOf('/')
  if (cut < 0) lastParent = ''
  else if (cut !== lastParent.length || !path.startsWith(lastParent)) lastParent = path.slice(0, cut)
  lastName = path.slice(cut + 1)
  lastPath = path
}

export function parentOf(path: string): string {
  if (path !== lastPath) split(path)
  return lastParent
}

export function nameOf(path: string): string {
  if (path !== lastPath) split(path)
  return lastName
}

export function joinPath(directory: string, name: string): string {
  return directory === '' ? name : `${directory}/${name}`
}

/** A path that is another, or is inside of it. */
export function isAtOrBelow(path: string, directory: string): boolean {
  return directory === '' || path === directory || path.startsWith(`${directory}/`)
}

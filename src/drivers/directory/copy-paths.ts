/** Where in a copy's sidecar things stand (see copy-opening.ts), and paths within a copy (latin1, '' its root). */

export function copyPlaces(sidecar: string) {
  return {
    log: `${sidecar}/state.log`,
    first: `${sidecar}/first`,
    stage: `${sidecar}/stage`,
    kept: `${sidecar}/kept`,
  }
}

export function parentOf(path: string): string {
  const cut = path.lastIndexOf('/')
  return cut < 0 ? '' : path.slice(0, cut)
}

export function nameOf(path: string): string {
  return path.slice(path.lastIndexOf('/') + 1)
}

export function joinPath(directory: string, name: string): string {
  return directory === '' ? name : `${directory}/${name}`
}

/** A path that is another, or is inside of it. */
export function isAtOrBelow(path: string, directory: string): boolean {
  return directory === '' || path === directory || path.startsWith(`${directory}/`)
}

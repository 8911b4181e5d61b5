/** Where in a copy's sidecar things stand; see copy-opening.ts. */
export function copyPaths(sidecar: string) {
  return {
    state: `${sidecar}/state.log`,
    journal: `${sidecar}/journal`,
    stages: `${sidecar}/stage`,
    first: `${sidecar}/first`,
  }
}

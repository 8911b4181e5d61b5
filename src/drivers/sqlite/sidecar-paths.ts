export interface SidecarPaths {
  /** Slots with what is known of the copy. */
  readonly state: string
  /** The digests of the copy's pages, as of its last checkpoint. */
  readonly digests: string
  /** A copy that is being made. */
  readonly stage: { readonly file: string; readonly digests: string }
}

export function sidecarPaths(sidecar: string): SidecarPaths {
  return {
    state: `${sidecar}/state`,
    digests: `${sidecar}/pages`,
    stage: { file: `${sidecar}/first.db`, digests: `${sidecar}/first-pages` },
  }
}

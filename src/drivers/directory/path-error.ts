/** A system error and the path (latin1, within the tree) at which it was met. */
export class PathError extends Error {
  override readonly name = 'PathError'
  readonly code: string | undefined
  readonly path: string

  constructor(cause: unknown, path: string) {
    super(cause instanceof Error ? cause.message : String(cause), { cause })
    this.code = cause instanceof Error ? (cause as NodeJS.ErrnoException).code : undefined
    this.path = path
  }
}

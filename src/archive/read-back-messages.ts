/** What passes between who writes an archive and the thread that reads it back. */
import type { ArchiveFormat } from './compression.ts'
import type { TarFault } from './tar-reader.ts'

export interface ReadBackSubject {
  readonly format: ArchiveFormat
  /** The file that grows; undefined when frames come with their bytes. */
  readonly path: string | undefined
}

export type ReadBackRequest =
  /** First, and once. */
  | { readonly kind: 'begin'; readonly subject: ReadBackSubject }
  | {
      readonly kind: 'frame'
      /** In the file. */
      readonly offset: number
      readonly length: number
      readonly rawBytes: number
      readonly bytes: Uint8Array | undefined
    }
  | { readonly kind: 'end'; readonly fileBytes: number }

export interface ReadBackResult {
  readonly members: number
  readonly chain: string | undefined
}

export type ReadBackReply =
  | { readonly kind: 'checked' }
  | { readonly kind: 'fault'; readonly fault: TarFault }
  /** The bytes themselves are not what they should be. */
  | { readonly kind: 'damaged'; readonly what: string }
  /** They could not be looked at; `system` is the system's code of the error. */
  | { readonly kind: 'failed'; readonly message: string; readonly system: string | undefined }
  | { readonly kind: 'result'; readonly result: ReadBackResult }

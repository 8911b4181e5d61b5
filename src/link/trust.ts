/** Whom a server believes: what two servers know of each other since they were paired. */

export interface KnownPeer {
  /** What both know and nobody else: `secretBytes` of them. */
  readonly secret: Uint8Array
  /** SHA-256 of its certificate, 64 hex digits; undefined until it has called, or was called, for the first time. */
  readonly certificate?: string
}

export interface PeerTrust {
  /** Undefined: not paired with a server of this name. */
  peer(name: string): Promise<KnownPeer | undefined>
  /**
   * The peer has proved the secret over a connection with this certificate, and none was known before: from now on
   * no other is accepted of it. Durable when it resolves.
   */
  pin(name: string, certificate: string): Promise<void>
}

export const secretBytes = 32

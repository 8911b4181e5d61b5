/** The states in which a link may be. */
export type LinkState =
  | 'stopped'
  | 'waiting-for-call'
  | 'calling'
  | 'waiting-to-call'
  | 'handshaking'
  | 'connected'
  | 'synchronising'
  | 'reading-queue'
  | 'writing'
  | 'waiting-for-acknowledgement'
  | 'idle'
  | 'refused'

/**
 * A position that also says which transaction of a log the commit was: `log:NUMBER:EPOCH:POSITION`.
 *
 * A copy that is fed from a log keeps it in place of the bare position, and so, durable with the data itself, the number
 * from which it goes on. A driver that reads its own position from a copy takes it bare.
 */
import { HotspareError } from '../os/errors.ts'
import { type Position, position, positionBytesMax } from './entry.ts'

/** No driver's own position begins like this: they are JSON. */
const prefix = 'log:'

export interface NumberedPosition {
  /** Of the transaction in its log. */
  readonly number: number
  /** The number of the epoch in which it was written. */
  readonly epoch: number
  /** As the driver made it. */
  readonly position: Position
}

/** Throws `entry-invalid` when there is no room for the number. */
export function numberedPosition(at: NumberedPosition): Position {
  const text = `${prefix}${at.number}:${at.epoch}:${at.position}`
  if (text.length > positionBytesMax) {
    throw new HotspareError(
      'entry-invalid',
      `The position of transaction ${at.number} has ${at.position.length} characters, which leaves no room for its number.`,
    )
  }
  return position(text)
}

/** Undefined when it is a bare position. */
export function parseNumberedPosition(text: Position): NumberedPosition | undefined {
  if (!text.startsWith(prefix)) return undefined
  const parts = /^log:([1-9][0-9]{0,15}):([0-9]{1,16}):(.+)$/s.exec(text)
  const [number, epoch] = [Number(parts?.[1]), Number(parts?.[2])]
  if (parts === null || !Number.isSafeInteger(number) || !Number.isSafeInteger(epoch)) {
    throw new HotspareError(
      'state-damaged',
      `The copy's position is not one that a server wrote: ${text.slice(0, 200)}. Synchronise the copy anew.`,
    )
  }
  return { number, epoch, position: position(parts[3] as string) }
}

/** As the driver made it, whether it is numbered or not. */
export function barePosition(text: Position): Position {
  return parseNumberedPosition(text)?.position ?? text
}

/**
 * Records of a pax header: `LENGTH KEYWORD=VALUE\n`, LENGTH in decimal and counting itself. All in latin1, so that
 * values are bytes.
 */

/** Bytes of records that a header may have: extended attributes are its bulk, at most 64 KiB each. */
export const paxBytesMax = 16 * 1024 * 1024

export function paxRecord(keyword: string, value: string): string {
  const rest = keyword.length + value.length + 3
  let length = rest + String(rest).length
  // the length's own digits may add one
  if (rest + String(length).length !== length) length = rest + String(length).length
  return `${length} ${keyword}=${value}\n`
}

/** In order; undefined when the bytes are no records. */
export function parsePaxRecords(text: string): [keyword: string, value: string][] | undefined {
  const records: [string, string][] = []
  for (let at = 0; at < text.length; ) {
    const space = text.indexOf(' ', at)
    if (space <= at || space - at > 10) return undefined
    const digits = text.slice(at, space)
    if (!/^[0-9]+$/.test(digits)) return undefined
    const end = at + Number(digits)
    if (end > text.length || end <= space + 2 || text[end - 1] !== '\n') return undefined
    const equals = text.indexOf('=', space)
    if (equals <= space + 1 || equals >= end) return undefined
    records.push([text.slice(space + 1, equals), text.slice(equals + 1, end - 1)])
    at = end
  }
  return records
}

/** Seconds since 1970 with a fraction when there is one: `-1.5` is half a second before the second -1. */
export function paxTime(seconds: number, nanoseconds: number): string {
  if (nanoseconds === 0) return String(seconds)
  const isBefore = seconds < 0
  const whole = isBefore ? -seconds - 1 : seconds
  const rest = isBefore ? 1_000_000_000 - nanoseconds : nanoseconds
  let digits = rest
  let length = 9
  for (; digits % 10 === 0; length--) digits /= 10
  return `${isBefore ? '-' : ''}${whole}.${String(digits).padStart(length, '0')}`
}

export interface PaxTime {
  readonly seconds: number
  readonly nanoseconds: number
}

/** Undefined when it is no time. What is finer than nanoseconds is cut. */
export function parsePaxTime(text: string): PaxTime | undefined {
  const match = /^(-?)([0-9]{1,15})(?:\.([0-9]*))?$/.exec(text)
  if (match === null) return undefined
  const whole = Number(match[2])
  const rest = Number((match[3] ?? '').padEnd(9, '0').slice(0, 9))
  if (match[1] === '') return { seconds: whole, nanoseconds: rest }
  return rest === 0
    ? { seconds: whole === 0 ? 0 : -whole, nanoseconds: 0 }
    : { seconds: -whole - 1, nanoseconds: 1_000_000_000 - rest }
}

/** A whole, exact number; undefined when it is none. */
export function parsePaxNumber(text: string): number | undefined {
  if (!/^[0-9]{1,16}$/.test(text)) return undefined
  const value = Number(text)
  return Number.isSafeInteger(value) ? value : undefined
}

/** As GNU tar writes names of extended attributes, which may hold '='. */
export function encodeXattrName(name: string): string {
  return name.replace(/%/g, '%25').replace(/=/g, '%3D')
}

export function decodeXattrName(name: string): string {
  return name.replace(/%3D/g, '=').replace(/%25/g, '%')
}

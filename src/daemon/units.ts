/** Sizes and times as people write them, in options and in the configuration, and as they read them. */

/** `64MiB`, `1.5 GiB`, `500k`, `4096`: units of 1024, whatever their case; undefined when it is no size. */
export function parseBytes(text: string): number | undefined {
  const match = /^(\d+(?:\.\d+)?)\s*(?:([kmgtp])(?:i?b)?|b|bytes)?$/i.exec(text.trim())
  if (match === null) return undefined
  const power = match[2] === undefined ? 0 : 'kmgtp'.indexOf(match[2].toLowerCase()) + 1
  return Math.round(Number(match[1]) * 1024 ** power)
}

const durationUnits: Readonly<Record<string, number>> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000 }

/** `500ms`, `30s`, `1.5m`, `1h`, in milliseconds; a number alone is seconds; undefined when it is no time. */
export function parseDuration(text: string): number | undefined {
  const match = /^(\d+(?:\.\d+)?)\s*(ms|s|m|h)?$/.exec(text.trim())
  if (match === null) return undefined
  return Math.round(Number(match[1]) * (durationUnits[match[2] ?? 's'] ?? 1))
}

export function durationText(ms: number): string {
  if (ms < 1_000) return `${Math.round(ms)} ms`
  const seconds = ms / 1_000
  if (seconds < 10) return `${seconds.toFixed(1)} s`
  if (seconds < 100) return `${Math.round(seconds)} s`
  const minutes = Math.round(seconds / 60)
  if (minutes < 100) return `${minutes} min`
  const hours = Math.round(minutes / 60)
  return hours < 100 ? `${hours} h` : `${Math.round(hours / 24)} days`
}

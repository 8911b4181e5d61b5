/** Sizes and times as people write them, in options and in the configuration. */

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

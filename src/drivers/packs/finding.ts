/** One thing that a check proved or refuted, in plain words. */
export interface Finding {
  readonly ok: boolean
  readonly what: string
}

export function proved(what: string): Finding {
  return { ok: true, what }
}

export function refuted(what: string): Finding {
  return { ok: false, what }
}

/** A list for people that does not grow without bound. */
export function some(items: readonly string[], max = 5): string {
  const rest = items.length - max
  return rest > 0 ? `${items.slice(0, max).join(', ')} and ${rest} more` : items.join(', ')
}

import { readFileSync } from 'node:fs'
import { percentile } from './measure.ts'

export interface Latency {
  readonly p50: number
  readonly p99: number
  readonly count: number
  /** Marks that never became durable while it was measured. */
  readonly missed: number
}

/** From pairs (mark, time) of a writer and of what reported marks as durable: how long each of the writer's took. */
export function latency(writer: Float64Array, durable: Float64Array, skipMs = 0): Latency {
  const delays: number[] = []
  let missed = 0
  let at = 0
  const fromMs = (writer[1] ?? 0) + skipMs
  for (let i = 0; i < writer.length; i += 2) {
    const mark = writer[i] as number
    const timeMs = writer[i + 1] as number
    while (at < durable.length && (durable[at] as number) < mark) at += 2
    if (at >= durable.length) missed++
    else if (timeMs >= fromMs) delays.push(Math.max(0, (durable[at + 1] as number) - timeMs))
  }
  return { p50: percentile(delays, 50), p99: percentile(delays, 99), count: delays.length, missed }
}

export function readTimes(path: string): Float64Array {
  const bytes = readFileSync(path)
  return new Float64Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length))
}

/** Figures as people read them. */
export { durationText as formatDuration } from '../daemon/units.ts'

const byteUnits = ['bytes', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB']

export function formatBytes(bytes: number): string {
  let value = bytes
  let unit = 0
  while (value >= 1024 && unit < byteUnits.length - 1) {
    value /= 1024
    unit++
  }
  if (unit === 0) return bytes === 1 ? '1 byte' : `${bytes} bytes`
  return `${value >= 100 ? value.toFixed(0) : value.toFixed(1)} ${byteUnits[unit]}`
}

export function formatCount(count: number, one: string, many = `${one}s`): string {
  if (count === 1) return `1 ${one}`
  // what Intl gives, without the 10 ms that it takes to load
  return `${String(count).replace(/\B(?=(\d{3})+$)/g, ',')} ${many}`
}

/** Local time without a zone would mislead whoever reads it elsewhere. */
export function formatTime(ms: number): string {
  return new Date(ms).toISOString().replace('T', ' ').replace(/\..*/, ' UTC')
}

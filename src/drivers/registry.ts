import { HotspareError } from '../os/errors.ts'
import { directoryDriver } from './directory/driver.ts'
import type { Detection, Driver } from './driver.ts'
import { packsDriver } from './packs/driver.ts'
import { sqliteDriver } from './sqlite/driver.ts'

/** All drivers, in the order in which `detect` asks them. */
const drivers: readonly Driver[] = [sqliteDriver, packsDriver, directoryDriver]

export function allDrivers(): readonly Driver[] {
  return drivers
}

export function driverNamed(name: string): Driver {
  const driver = drivers.find(candidate => candidate.name === name)
  if (driver === undefined) {
    const known = drivers.map(candidate => candidate.name).join(', ')
    throw new HotspareError('usage', `There is no driver '${name}'. Drivers: ${known}.`)
  }
  return driver
}

/** What each driver says of a path, the surest first. */
export async function detectAll(path: string): Promise<{ driver: Driver; detection: Detection }[]> {
  const found: { driver: Driver; detection: Detection }[] = []
  for (const driver of drivers) {
    const detection = await driver.detect(path)
    if (detection !== undefined) found.push({ driver, detection })
  }
  return found.sort((a, b) => b.detection.confidence - a.detection.confidence)
}

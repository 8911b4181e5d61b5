import type { Detection, DriverCapabilities } from '../drivers/driver.ts'
import { allDrivers, detectAll } from '../drivers/registry.ts'
import { describeSystemError, HotspareError } from '../os/errors.ts'
import { findProgram } from '../os/programs.ts'
import { localMachine } from './machine.ts'
import { absolutePath } from './paths.ts'

export interface DriverInfo {
  readonly name: string
  readonly summary: string
  readonly profiles: readonly { readonly name: string; readonly summary: string }[]
  readonly capabilities: DriverCapabilities
  /** Programs that some act wants; `path` when it is installed. */
  readonly tools: readonly { readonly name: string; readonly purpose: string; readonly path?: string }[]
}

export interface DriversReport {
  readonly drivers: readonly DriverInfo[]
  /** The path that was asked about, and what recognises it, the surest first. */
  readonly path?: string
  readonly detected?: readonly ({ readonly driver: string } & Detection)[]
}

/** What drivers there are and, for a path, what each says of it. Rejects with `source-missing`. */
export async function drivers(path?: string): Promise<DriversReport> {
  const list = await Promise.all(allDrivers().map(describe))
  if (path === undefined) return { drivers: list }
  const absolute = absolutePath(path).replace(/(?<=.)\/+$/, '')
  try {
    if ((await localMachine.storage.stat(absolute)) === undefined) {
      throw new HotspareError('source-missing', `There is no ${absolute}.`)
    }
    const detected = (await detectAll(absolute)).map(({ driver, detection }) => ({
      driver: driver.name,
      ...detection,
    }))
    return { drivers: list, path: absolute, detected }
  } catch (error) {
    throw describeSystemError(error, `Looking at what ${absolute} is`)
  }
}

async function describe(driver: ReturnType<typeof allDrivers>[number]): Promise<DriverInfo> {
  const { name, summary, profiles, capabilities } = driver
  const tools = await Promise.all(
    driver.tools.map(async tool => {
      const path = await findProgram(tool.name)
      return path === undefined ? tool : { ...tool, path }
    }),
  )
  return { name, summary, profiles, capabilities, tools }
}

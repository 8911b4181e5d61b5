import { constants } from 'node:fs'
import { access } from 'node:fs/promises'

/** Where a program is on the PATH; undefined when it is not installed. */
export async function findProgram(name: string): Promise<string | undefined> {
  const directories = (process.env.PATH ?? '').split(':').filter(directory => directory !== '')
  for (const directory of directories) {
    const path = `${directory}/${name}`
    try {
      await access(path, constants.X_OK)
      return path
    } catch {
      // not in this one
    }
  }
  return undefined
}

/** What a hook is told, in its environment. */
import type { Epoch } from '../stream/epoch.ts'
import type { ServerSettings } from './server.ts'

export function hookEnvironment(
  { set, name, stores }: ServerSettings,
  epoch: Epoch,
  number: number,
): Record<string, string> {
  return {
    HOTSPARE_SET: set,
    HOTSPARE_NAME: name,
    HOTSPARE_EPOCH: String(epoch.number),
    HOTSPARE_NUMBER: String(number),
    ...Object.fromEntries(stores.map(({ store, path }) => [variableOf(store), path])),
  }
}

/** What a shell cannot have in a variable's name becomes '_'. */
function variableOf(store: string): string {
  return `HOTSPARE_STORE_${store.toUpperCase().replace(/[^A-Z0-9]/g, '_')}`
}

import type { Machine } from '../drivers/driver.ts'
import { systemClock } from '../os/clock.ts'
import { nodeStorage } from '../os/node-storage.ts'

/** The files and the clock of the machine that this runs on. */
export const localMachine: Machine = { storage: nodeStorage, clock: systemClock }

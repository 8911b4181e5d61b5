/**
 * The seed of whatever a test draws. It is the same each time, so that a run tells something of the change that it tests,
 * and can be had again. HOTSPARE_SEED=N gives other draws, HOTSPARE_SEED=random new ones each time (printed by the tests).
 */
import { randomInt } from 'node:crypto'

const usual = 20_260_101
const asked = process.env.HOTSPARE_SEED

export const seed = asked === undefined ? usual : asked === 'random' ? randomInt(1, 2 ** 31) : Number(asked)

import type { CheckReport } from '../drivers/driver.ts'
import { describeSystemError, HotspareError } from '../os/errors.ts'
import { realPath } from '../os/real-path.ts'
import type { Storage } from '../os/storage.ts'
import { type CopyRequest, openCopy } from './copy.ts'
import { absolutePath } from './paths.ts'

export interface CheckRequest extends CopyRequest {
  /** Compare with this live source as well; true: with the one that the copy was made of. */
  readonly against?: string | true
}

export interface CheckResult extends CheckReport {
  readonly driver: string
  readonly target: string
  readonly against?: string
  readonly elapsedMs: number
}

/**
 * Proves that a copy is valid, also while it is followed. A copy that does not hold is a result (`valid: false`); what
 * keeps from looking is a rejection.
 */
export async function check(request: CheckRequest): Promise<CheckResult> {
  try {
    const { place, machine, options } = await openCopy(request)
    const startedMs = machine.clock.nowMs()
    const wanted = request.against === true ? place.meta.source : request.against
    const against = wanted === undefined ? undefined : await existing(machine.storage, wanted)
    const report = await place.driver.check({ ...options, ...(against === undefined ? {} : { against }) })
    return {
      driver: place.driver.name,
      target: place.target,
      ...(against === undefined ? {} : { against }),
      ...report,
      elapsedMs: machine.clock.nowMs() - startedMs,
    }
  } catch (error) {
    throw describeSystemError(error, `Checking ${request.target}`)
  }
}

async function existing(storage: Storage, path: string): Promise<string> {
  const plain = absolutePath(path).replace(/(?<=.)\/+$/, '')
  for (const candidate of [plain, `${plain}.rdm`]) {
    const real = await realPath(storage, candidate)
    if ((await storage.stat(real)) !== undefined) return real
  }
  throw new HotspareError('source-missing', `There is no ${plain} to compare the copy with.`)
}

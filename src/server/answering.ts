/** What a server answers to any peer: whether the link and the disk work, and what its log is. */

import { Turns } from '../log/turns.ts'
import type { ServerParts } from './parts.ts'
import type { Link } from './peer-link.ts'

export class Answering {
  readonly #parts: ServerParts
  readonly #turns = new Turns()

  constructor(parts: ServerParts) {
    this.#parts = parts
  }

  attend({ control, session }: Link): void {
    // a peer that is gone needs no answer; what is wrong with the disk ends the session, and is said
    const answering = (answer: Promise<void>) => void answer.catch(error => session.close(String(error)))
    control.on('probe', ({ id, payload }) =>
      answering(
        this.#turns.run(async () => {
          const durableMs = await this.#write(payload)
          await control.send({ type: 'probed', id, durableMs })
        }),
      ),
    )
    control.on('chain-ask', ({ number }) => {
      const { log } = this.#parts
      const told = async () => {
        const chain = await log.chainAfter(number)
        const { first, next } = log
        await control.send({ type: 'chain-told', number, chain, first, next })
      }
      answering(told())
    })
  }

  async #write(payload: Uint8Array): Promise<number> {
    const { machine, settings } = this.#parts
    const { storage, clock } = machine
    const path = `${settings.stateDirectory}/probe`
    const file = await storage.open(path, 'create')
    try {
      const fromMs = clock.nowMs()
      await file.write(payload, 0)
      await file.sync()
      return clock.nowMs() - fromMs
    } finally {
      await file.close()
      await storage.remove(path)
    }
  }
}

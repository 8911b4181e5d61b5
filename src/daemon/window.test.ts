import assert from 'node:assert/strict'
import { test } from 'node:test'
import { HotspareError } from '../os/errors.ts'
import { VirtualClock } from '../os/testing/virtual-clock.ts'
import type { ModeSwitch } from './mode-switch.ts'
import { holdWindow, type WindowEvent, type WindowOptions, type WindowReport } from './window.ts'

/** What happens at a step: it does its work, fails without effect, fails after it took effect, hangs, or a signal arrives. */
type Mishap = 'works' | 'fails' | 'fails-late' | 'hangs' | 'signal'
type Step = 'enter' | 'verify' | 'read' | 'leave' | 'refresh'

interface Script {
  readonly mishaps: Partial<Record<Step, Mishap | readonly Mishap[]>>
  /** On before anything is done. */
  readonly on?: boolean
  readonly withoutVerify?: boolean
  readonly withoutRefresh?: boolean
  readonly readMs?: number
  readonly refreshEveryMs?: number
  readonly expiresMs?: number
  readonly maxHoldMs?: number
  /** Somebody turns it off, or it ends by itself, so long after it was entered. */
  readonly offAfterMs?: number
}

/** An application with a maintenance mode, and a mirror of it, under a clock of our own. */
class World {
  readonly clock = new VirtualClock()
  readonly interruption = new AbortController()
  readonly script: Script
  readonly events: WindowEvent[] = []
  readonly calls: string[] = []
  on: boolean
  lease: 'none' | 'claimed' | 'entering' | 'removed' | 'given-up' = 'none'
  kept: boolean | undefined
  reading = false
  /** The law that a read never runs on when writers go on. */
  readWhileOff = false
  enteredWithoutLease = false
  readonly #counts = new Map<Step, number>()

  constructor(script: Script) {
    this.script = script
    this.on = script.on ?? false
  }

  async step(step: Step, signal: AbortSignal | undefined, effect: () => void): Promise<void> {
    const count = this.#counts.get(step) ?? 0
    this.#counts.set(step, count + 1)
    this.calls.push(step)
    const scripted = this.script.mishaps[step] ?? 'works'
    const mishap = typeof scripted === 'string' ? scripted : (scripted[count] ?? scripted.at(-1) ?? 'works')
    switch (mishap) {
      case 'works':
        await this.clock.sleep(10, signal)
        return effect()
      case 'fails':
        throw new HotspareError(step === 'leave' ? 'leave-failed' : 'enter-failed', `${step} failed`)
      case 'fails-late':
        effect()
        throw new HotspareError(step === 'leave' ? 'leave-failed' : 'enter-failed', `${step} failed late`)
      case 'hangs':
        effect()
        await this.clock.sleep(1e9, signal)
        throw new HotspareError('mode-unknown', `${step} was ended`)
      case 'signal':
        effect()
        this.interruption.abort()
        await this.clock.sleep(1e9, signal)
        throw new HotspareError('mode-unknown', `${step} was ended`)
    }
  }

  get mode(): ModeSwitch {
    const { withoutVerify, withoutRefresh } = this.script
    return {
      enter: async signal => {
        this.enteredWithoutLease ||= this.lease !== 'entering'
        await this.step('enter', signal, () => {
          this.on = true
          const { offAfterMs } = this.script
          if (offAfterMs !== undefined) void this.clock.sleep(offAfterMs).then(() => this.#turnOff())
        })
        return 'ours'
      },
      leave: signal => this.step('leave', signal, () => this.#turnOff()),
      verify: withoutVerify
        ? undefined
        : async signal => {
            let on = this.on
            await this.step('verify', signal, () => {
              on = this.on
            })
            return on
          },
      refresh: withoutRefresh
        ? undefined
        : signal =>
            this.step('refresh', signal, () => {
              this.on = true
            }),
      leaveByHand: 'leave it',
    }
  }

  #turnOff(): void {
    this.on = false
    if (this.reading) this.readWhileOff = true
  }

  run(more: Partial<WindowOptions> = {}): Promise<WindowReport> {
    const { script } = this
    return holdWindow({
      mode: this.mode,
      clock: this.clock,
      signal: this.interruption.signal,
      timeoutMs: 60_000,
      maxHoldMs: script.maxHoldMs ?? 300_000,
      settleMs: 5,
      refreshEveryMs: script.refreshEveryMs ?? 60_000,
      ...(script.expiresMs === undefined ? {} : { expiresMs: script.expiresMs }),
      claim: async () => {
        this.lease = 'claimed'
        return {
          path: '/leases/1.json',
          running: async () => {},
          entering: async () => {
            this.lease = 'entering'
          },
          remove: async () => {
            this.lease = 'removed'
          },
          giveUp: async () => {
            this.lease = 'given-up'
          },
        }
      },
      begin: () => {
        this.reading = true
        const over = new AbortController()
        const read = this.step('read', over.signal, () => {}).then(async () => {
          await this.clock.sleep(script.readMs ?? 0, over.signal)
          this.reading = false
        })
        return {
          read,
          conclude: keep => {
            this.kept ??= keep
            this.reading = false
            over.abort()
          },
        }
      },
      onEvent: event => this.events.push(event),
      ...more,
    })
  }
}

interface Expected {
  readonly code: string
  readonly kept: boolean
}

/** Every mishap at every step of a window: a cell that is forgotten does not compile. */
const table: Record<Exclude<Step, 'refresh'>, Record<Mishap, Expected>> = {
  enter: {
    works: { code: 'none', kept: true },
    fails: { code: 'enter-failed', kept: false },
    'fails-late': { code: 'enter-failed', kept: false },
    hangs: { code: 'mode-unknown', kept: false },
    signal: { code: 'AbortError', kept: false },
  },
  // the first one, which asks whether it is on already, is in tests of its own
  verify: {
    works: { code: 'none', kept: true },
    fails: { code: 'enter-failed', kept: false },
    'fails-late': { code: 'enter-failed', kept: false },
    hangs: { code: 'mode-unknown', kept: false },
    signal: { code: 'AbortError', kept: false },
  },
  read: {
    works: { code: 'none', kept: true },
    fails: { code: 'enter-failed', kept: false },
    'fails-late': { code: 'enter-failed', kept: false },
    hangs: { code: 'hold-exceeded', kept: false },
    signal: { code: 'AbortError', kept: false },
  },
  // tried again, and the second time it works
  leave: {
    works: { code: 'none', kept: true },
    fails: { code: 'none', kept: true },
    'fails-late': { code: 'none', kept: true },
    hangs: { code: 'none', kept: true },
    signal: { code: 'none', kept: true },
  },
}

function codeOf(fault: unknown): string {
  if (fault === undefined) return 'none'
  return fault instanceof HotspareError ? fault.code : (fault as Error).name
}

for (const [step, mishaps] of Object.entries(table) as [
  Exclude<Step, 'refresh'>,
  Record<Mishap, Expected>,
][]) {
  for (const [mishap, expected] of Object.entries(mishaps) as [Mishap, Expected][]) {
    for (const withoutVerify of step === 'verify' ? [false] : [false, true]) {
      test(`when ${step} ${mishap}${withoutVerify ? ', without a way to verify' : ''}, the mode is left, and the lease goes`, async () => {
        const scripted =
          step === 'verify' ? (['works', mishap, 'works'] as const) : ([mishap, 'works'] as const)
        const world = new World({ mishaps: { [step]: scripted }, withoutVerify })
        const report = await world.run()
        const code = step === 'enter' && mishap === 'hangs' && withoutVerify ? 'enter-failed' : expected.code
        assert.equal(codeOf(report.fault), code)
        assert.equal(report.kept, expected.kept)
        assert.equal(world.kept ?? false, expected.kept)
        assert.equal(world.on, false)
        assert.equal(world.lease, 'removed')
        assert.equal(report.entered, true)
        assert.equal(report.leaveFault, undefined)
        assert.equal(world.readWhileOff, false)
        assert.equal(world.enteredWithoutLease, false)
        assert.equal(world.calls.includes('leave'), true)
        assert.equal(world.events.at(-1)?.event, 'left')
      })
    }
  }
}

for (const mishap of ['fails', 'hangs', 'signal'] as const) {
  test(`when it cannot be told whether the mode is on already (${mishap}), nothing is entered and nothing left`, async () => {
    const world = new World({ mishaps: { verify: mishap } })
    await assert.rejects(world.run())
    assert.deepEqual(world.calls, ['verify'])
    assert.equal(world.lease, 'removed')
  })
}

test('a mode that was on already is neither entered nor left, and what was read counts', async () => {
  const world = new World({ mishaps: {}, on: true })
  const report = await world.run()
  assert.deepEqual(world.calls, ['verify', 'read', 'verify'])
  assert.equal(report.entered, false)
  assert.equal(report.kept, true)
  assert.equal(world.on, true)
  assert.equal(world.lease, 'removed')
})

test('a mode that was on already and was turned off meanwhile makes what was read not count', async () => {
  const world = new World({ mishaps: {}, on: true, readMs: 1_000 })
  const running = world.run()
  void world.clock.sleep(500).then(() => {
    world.on = false
  })
  const report = await running
  assert.equal(codeOf(report.fault), 'mode-off')
  assert.equal(world.kept, false)
})

test('a mode that somebody enters in the same moment is theirs, and is not left', async () => {
  const world = new World({ mishaps: {} })
  const enter = async () => {
    world.on = true
    return 'theirs' as const
  }
  const report = await world.run({ mode: { ...world.mode, enter } })
  assert.equal(report.entered, false)
  assert.equal(report.kept, true)
  assert.equal(world.on, true)
  assert.equal(world.lease, 'removed')
})

test('a mode that is off after it was entered is said, and left all the same', async () => {
  const world = new World({ mishaps: {} })
  const enter = async () => 'ours' as const
  const report = await world.run({ mode: { ...world.mode, enter } })
  assert.equal(codeOf(report.fault), 'mode-off')
  assert.deepEqual(world.calls, ['verify', 'verify', 'leave', 'verify'])
  assert.equal(world.lease, 'removed')
})

for (const mishap of ['fails', 'hangs'] as const) {
  test(`when leaving ${mishap} every time, it is tried a few times, the lease stays, and what to do by hand is said`, async () => {
    const world = new World({ mishaps: { leave: mishap }, withoutVerify: true })
    const report = await world.run()
    assert.equal(report.leaveFault?.code, 'leave-failed')
    assert.match(report.leaveFault?.message ?? '', /MAINTENANCE MODE MAY STILL BE ON.*leave it/)
    assert.equal(world.lease, 'given-up')
    assert.equal(world.calls.filter(call => call === 'leave').length, 5)
    // what was read inside is whole: it counts
    assert.equal(world.kept, true)
    assert.equal(
      world.events.some(event => event.event === 'left'),
      false,
    )
  })
}

test('leaving that says it worked, and did not, is not believed where it can be verified', async () => {
  const world = new World({ mishaps: {} })
  const report = await world.run({ mode: { ...world.mode, leave: async () => {} } })
  assert.equal(report.leaveFault?.code, 'leave-failed')
  assert.equal(world.lease, 'given-up')
})

test('leaving that says it failed is not believed either when the mode is seen to be off', async () => {
  const world = new World({ mishaps: { leave: 'fails-late' } })
  const report = await world.run()
  assert.equal(report.leaveFault, undefined)
  assert.equal(world.calls.filter(call => call === 'leave').length, 1)
})

test('a mode that ends by itself is refreshed in time, as often as it takes', async () => {
  const world = new World({ mishaps: {}, readMs: 250_000, expiresMs: 540_000 })
  const report = await world.run()
  assert.equal(report.kept, true)
  assert.equal(world.calls.filter(call => call === 'refresh').length, 4)
})

test('a refresh that failed is said, and the mode verified before what was read counts', async () => {
  const on = new World({ mishaps: { refresh: 'fails' }, readMs: 100_000 })
  assert.equal((await on.run()).kept, true)
  assert.equal(
    on.events.some(event => event.event === 'refresh-failed'),
    true,
  )
  assert.deepEqual(on.calls.slice(-3), ['verify', 'leave', 'verify'])

  const off = new World({ mishaps: { refresh: 'fails' }, readMs: 100_000, offAfterMs: 80_000 })
  const report = await off.run()
  assert.equal(codeOf(report.fault), 'mode-off')
  assert.equal(off.kept, false)
})

test('a mode that was refreshed last too long ago counts as off, whatever verifying it says', async () => {
  const world = new World({ mishaps: { refresh: 'fails' }, readMs: 100_000, expiresMs: 90_000 })
  const report = await world.run()
  assert.equal(codeOf(report.fault), 'mode-off')
  assert.equal(world.kept, false)
})

test('no refresh comes after leaving: it would put the mode on for good', async () => {
  const world = new World({ mishaps: { refresh: 'hangs' }, readMs: 61_000 })
  await world.run()
  assert.equal(world.on, false)
  assert.ok(world.calls.lastIndexOf('refresh') < world.calls.indexOf('leave'))
})

test('the limit counts from the beginning of entering, and is told with what to do', async () => {
  const world = new World({ mishaps: {}, readMs: 1e6, maxHoldMs: 30_000 })
  const report = await world.run()
  assert.equal(codeOf(report.fault), 'hold-exceeded')
  assert.match((report.fault as Error).message, /30 s.*--max-hold/)
  assert.ok(report.heldMs >= 30_000 && report.heldMs < 31_000, `${report.heldMs}`)
  assert.equal(world.on, false)
})

test('a short window asks no more than it must: enter, see that it is on, read, leave, see that it is off', async () => {
  const world = new World({ mishaps: {} })
  const report = await world.run()
  assert.deepEqual(world.calls, ['verify', 'enter', 'verify', 'read', 'leave', 'verify'])
  // what comes after leaving is not counted: enter, verify, settle, read, leave
  assert.equal(report.heldMs, 45)
})

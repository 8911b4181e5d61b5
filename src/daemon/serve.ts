/**
 * Runs the server of a configuration: the machine, the sockets, the hooks, the probes and what monitoring wants to know,
 * around what src/server/ does.
 */
import { driverNamed } from '../drivers/registry.ts'
import { describeSystemError } from '../os/errors.ts'
import type { LocalServer } from '../os/local-socket.ts'
import { systemRandom } from '../os/random.ts'
import { writersOf } from '../os/writers.ts'
import { openServer } from '../server/open-server.ts'
import type { Server, ServerMessage, ServerStatus } from '../server/server.ts'
import { listenForStdio, openLinkMachine } from './link-machine.ts'
import { localMachine } from './machine.ts'
import { writeLast } from './server-command.ts'
import type { ServerConfig } from './server-config.ts'
import { isUp } from './server-health.ts'
import { Notifier, runHook } from './server-hooks.ts'
import { serveSocket } from './server-socket.ts'

const probeBytes = 4096
const probeMsMax = 30_000

export interface ServeOptions {
  readonly config: ServerConfig
  readonly signal: AbortSignal
  /** Called once, when it listens and does what its role says. */
  onStarted(status: ServerStatus): void
  onMessage(message: ServerMessage): void
}

/** Until the signal aborts, or a fault that it cannot go on with. Throws `server-busy`, `config-invalid` and what the server finds. */
export async function serve(options: ServeOptions): Promise<void> {
  const { config, signal } = options
  const { settings, hooks } = config
  const { storage } = localMachine
  const environment = { HOTSPARE_SET: settings.set, HOTSPARE_NAME: settings.name }
  await makeStateDirectory(config)
  const { transport, trust, compressor } = await openLinkMachine(
    storage,
    settings.stateDirectory,
    settings.name,
  )
  const notifier = new Notifier(hooks, environment, output =>
    options.onMessage({
      timeMs: localMachine.clock.nowMs(),
      level: 'warning',
      code: 'notify-failed',
      message: `The notify command failed. It printed: ${output || 'nothing'}`,
    }),
  )
  const server = await openServer(
    settings,
    { ...localMachine, random: systemRandom, transport, trust, compressor, driverNamed, writersOf },
    {
      onMessage(message) {
        options.onMessage(message)
        notifier.tell(message)
      },
      hook: (name, more) => runHook(hooks, name, { ...environment, ...more }),
    },
  )
  const open: LocalServer[] = []
  const probing = new AbortController()
  try {
    open.push(await serveSocket(settings.stateDirectory, server))
    open.push(await listenForStdio(settings.stateDirectory, stream => server.accept(stream)))
    const started = server.status()
    // a server that is killed leaves this
    await writeLast(storage, settings.stateDirectory, started)
    options.onStarted(started)
    const probes = config.probeEveryMs === 0 ? undefined : probe(server, config.probeEveryMs, probing.signal)
    await Promise.race([server.stopped, aborted(signal)])
    probing.abort()
    await probes
  } finally {
    const last = server.status()
    for (const socket of open) await socket.close()
    await server.stop()
    await notifier.close()
    await writeLast(storage, settings.stateDirectory, last).catch(() => {
      // a full disk: what 'status' shows of a stopped server is all that is missing
    })
  }
  await server.stopped
}

async function makeStateDirectory({ settings, path }: ServerConfig): Promise<void> {
  try {
    await localMachine.storage.makeDirectory(settings.stateDirectory, 0o700)
  } catch (error) {
    throw describeSystemError(
      error,
      `Making ${settings.stateDirectory}, where ${path} has the server's state`,
    )
  }
}

/** What they measure is in the links' figures; who is away is known without. */
async function probe(server: Server, everyMs: number, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    await localMachine.clock.sleep(everyMs, signal)
    const peers = server.status().links.filter(link => isUp(link.state))
    for (const { peer } of peers) {
      if (signal.aborted) return
      const limit = AbortSignal.any([signal, AbortSignal.timeout(probeMsMax)])
      // a link that breaks meanwhile says so itself
      await server.probe(peer, probeBytes, limit).catch(() => undefined)
    }
  }
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise(resolve => {
    if (signal.aborted) resolve()
    else signal.addEventListener('abort', () => resolve(), { once: true })
  })
}

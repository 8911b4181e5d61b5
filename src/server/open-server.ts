/**
 * A server of a set: its state directory, log, links and role, put together. What it does in a role is done by
 * upstream/ (for those below) and downstream/ (towards the upstream); here it is begun, changed and ended.
 *
 * Invariant: one process has the state directory; role and epoch are durable before they are acted on. Roles change
 * without a new process: commands that change them come one after another.
 *
 * A crash leaves what the parts say; a promotion or a rejoining that was under way is gone on with at the next start.
 */
import { PeerStore } from '../link/peer-store.ts'
import type { Log } from '../log/log.ts'
import { openLog } from '../log/segment-log.ts'
import { describeSystemError, HotspareError } from '../os/errors.ts'
import { parentDirectory } from '../os/storage.ts'
import { applySubscriber } from './downstream/downstream.ts'
import { Messages } from './messages.ts'
import { RunningServer } from './running-server.ts'
import type { OpenServer, ServerActs, ServerMachine, ServerSettings } from './server.ts'
import { openServerState, type ServerState, type ServerStateFile } from './state.ts'

export const openServer: OpenServer = async (settings, machine, acts) => {
  const opened: (() => Promise<unknown>)[] = []
  try {
    opened.push(await takeDirectory(settings, machine))
    return await openInDirectory(settings, machine, acts, opened)
  } catch (error) {
    await closeAll(opened).catch(() => undefined) // the first fault is told
    throw describeSystemError(error, `Starting the server with ${settings.stateDirectory}`)
  }
}

async function takeDirectory(
  { stateDirectory }: ServerSettings,
  { storage }: ServerMachine,
): Promise<() => Promise<void>> {
  await storage.makeDirectory(stateDirectory, 0o700)
  await storage.syncDirectory(parentDirectory(stateDirectory))
  const lock = await storage.lock(`${stateDirectory}/lock`, 'exclusive')
  if (lock !== undefined) return () => lock.release()
  throw new HotspareError(
    'server-busy',
    `A server runs already with ${stateDirectory}. 'hotspare status' shows it.`,
  )
}

async function openInDirectory(
  settings: ServerSettings,
  machine: ServerMachine,
  acts: ServerActs,
  opened: (() => Promise<unknown>)[],
): Promise<RunningServer> {
  const { storage, clock, random } = machine
  const { stateDirectory: directory } = settings
  const messages = await Messages.open({
    storage,
    clock,
    directory,
    onMessage: message => acts.onMessage(message),
  })
  opened.push(() => messages.close())
  const state = await openServerState(storage, directory, freshState(settings))
  const { role, stream, epoch } = state.value
  const log = await openLog({
    storage,
    clock,
    random,
    directory: `${directory}/log`,
    limits: settings.limits,
    onNotice: ({ level, code, message }) => messages.tell(level, code, message),
    ...(stream === '' ? {} : { stream }),
    // a standby's is made by what it takes
    ...(role === 'primary' ? { epoch } : {}),
    refetch: role === 'standby',
    own: applySubscriber,
  })
  opened.push(() => log.close())
  await fit(state, log, messages)
  const server = await RunningServer.open({
    settings,
    machine,
    acts,
    state,
    log,
    messages,
    trust: machine.trust ?? new PeerStore(storage, directory),
    closeAll: () => closeAll(opened),
  })
  return server
}

/** The last that was opened first. All of them, whatever becomes of one; rejects with the first fault. */
async function closeAll(opened: (() => Promise<unknown>)[]): Promise<void> {
  const faults: unknown[] = []
  for (const close of opened.splice(0).reverse()) await close().catch(error => faults.push(error))
  if (faults.length > 0) throw faults[0]
}

function freshState(settings: ServerSettings): ServerState {
  const { set, name, role, upstream } = settings
  if (role === 'standby' && upstream === undefined)
    throw new HotspareError('config-invalid', `The standby '${name}' needs an upstream.`)
  return {
    set,
    name,
    stream: '',
    // of a new standby: older than any primary's, whatever their names
    epoch: { number: 1, by: role === 'primary' ? name : '' },
    role,
    ...(role === 'standby' && upstream !== undefined ? { upstream } : {}),
    enqueuing: true,
    applying: true,
    stores: {},
  }
}

/** The log may be new, or another than the state knows, and may not have heard of the last promotion. */
async function fit(state: ServerStateFile, log: Log, messages: Messages): Promise<void> {
  const { role, stream, epoch } = state.value
  if (stream !== log.stream) {
    const lost = stream !== ''
    if (lost)
      messages.tell(
        'error',
        'log-lost',
        'The log is not the one that this server had: its stores are compared with their upstream or standbys.',
      )
    if (role === 'primary') await state.update(before => ({ ...before, stream: log.stream }))
    else if (lost) {
      await state.update(before => ({
        ...before,
        stream: '',
        stores: Object.fromEntries(
          Object.entries(before.stores).map(([store, { base: _base, ...rest }]) => [store, rest]),
        ),
      }))
    }
  }
  if (role === 'primary') await log.beginEpoch(epoch)
  else await log.giveUpEpoch()
}

/** What `status` shows of a running server. */
import { applySubscriber, type Taking } from './downstream/downstream.ts'
import type { ServerParts } from './parts.ts'
import type { PeerLink } from './peer-link.ts'
import type { LinkState, LinkStatus, ServerStatus, StoreStatus } from './server.ts'
import type { Serving } from './upstream/upstream.ts'

export function statusOf(parts: ServerParts, taking: Taking['state'] | undefined): ServerStatus {
  const { settings, state, log, links, upstream, downstream } = parts
  const { role, epoch, fencedBy, stream, upstream: upstreamName, enqueuing, applying } = state.value
  const { first, next, durable, bytes, fullSinceMs } = log
  const { listening } = links
  return {
    set: settings.set,
    name: settings.name,
    pid: process.pid,
    role,
    epoch,
    ...(fencedBy === undefined ? {} : { fencedBy }),
    ...(upstreamName === undefined ? {} : { upstream: upstreamName }),
    ...(listening === undefined ? {} : { listening }),
    stream,
    log: {
      first,
      next,
      durable,
      bytes,
      ...(fullSinceMs === undefined ? {} : { fullSinceMs }),
      subscribers: log.subscribers().filter(({ name }) => name !== applySubscriber),
    },
    enqueuing,
    applying,
    stores: downstream?.stores() ?? upstream.stores().map(store => withCheck(parts, store)),
    links: links.all().map(peer =>
      peer.name === upstreamName
        ? upwards(parts, peer, taking)
        : downwards(
            parts,
            peer,
            upstream.servings().find(serving => serving.peer === peer.name),
          ),
    ),
    receivedTransactions: downstream?.receivedTransactions ?? 0,
    shippedTransactions: upstream.shippedTransactions,
  }
}

/** What is wrong now comes first. */
function withCheck({ checks }: ServerParts, status: StoreStatus): StoreStatus {
  const message = status.message ?? checks.messageOf(status.store)
  return message === undefined ? status : { ...status, message }
}

function upwards(
  { downstream, machine, log }: ServerParts,
  peer: PeerLink,
  taking: Taking['state'] | undefined,
): LinkStatus {
  const status = peer.status()
  const mark = downstream?.mark
  const lagMs =
    mark === undefined
      ? undefined
      : mark.number < log.next
        ? Math.max(0, mark.heardMs - mark.timeMs)
        : Math.max(0, machine.clock.nowMs() - mark.timeMs)
  return {
    ...status,
    direction: 'up',
    state: taking === undefined || peer.current === undefined ? status.state : upState(taking),
    ...(lagMs === undefined ? {} : { lagMs }),
  }
}

function upState(taking: Taking['state']): LinkState {
  switch (taking) {
    case 'subscribing':
      return 'connected'
    case 'synchronising':
      return 'synchronising'
    case 'receiving':
      return 'idle'
  }
}

function downwards({ log }: ServerParts, peer: PeerLink, serving: Serving | undefined): LinkStatus {
  const status = peer.status()
  const { received, applied, lagMs } = serving ?? {}
  return {
    ...status,
    direction: 'down',
    state:
      serving === undefined || peer.current === undefined ? status.state : downState(serving, log.durable),
    ...(received === undefined ? {} : { acknowledged: received }),
    ...(applied === undefined ? {} : { applied }),
    ...(lagMs === undefined ? {} : { lagMs }),
  }
}

function downState({ state, caughtUp, received }: Serving, durable: number): LinkState {
  if (state === 'subscribing') return 'connected'
  if (state === 'synchronising') return 'synchronising'
  if (!caughtUp) return 'writing'
  return received !== undefined && received >= durable ? 'idle' : 'waiting-for-acknowledgement'
}

import { randomUUID } from 'node:crypto'
import { EventEmitter, once } from 'node:events'
import { setTimeout as delay } from 'node:timers/promises'
import type pg from 'pg'
import type { RowChange } from '../tenant-configs/tenant-configs.js'

const HANDSHAKE_TIMEOUT_MS = 3000
const HEARTBEAT_INTERVAL_MS = 2000
const HEARTBEAT_TIMEOUT_MS = 4000
const FIRST_BACKOFF_MS = 100
const MAX_BACKOFF_MS = 2000

interface Handlers {
  /** Takes the rows that have changed; null when any may have. */
  onChanges: (changes: RowChange[] | null) => void
  /** Called when the listener is up: changes until now may have been missed. */
  onConnect: () => void
  /** Called when the listener is down: changes from now on are missed. */
  onLoss: () => void
  /** Called when a connection did not come about. */
  onRefusal: () => void
}

interface InvalidationListenerDependencies {
  /** Makes a client that is not yet connected. */
  connect: (config: pg.ClientConfig) => pg.Client
  /** Sends an empty notification on a channel by another connection. */
  notify: (channel: string) => Promise<unknown>
  log: { info: (text: string) => void, warn: (detail: { err: unknown }, text: string) => void }
}

export type InvalidationListener = ReturnType<typeof createInvalidationListener>

/**
 * Listens for changes of `tenant_configs` on a connection of its own. The handshake, a notification of our own by
 * another connection, must arrive before the listener counts as up. It never arrives behind a pooler that changes
 * connections between transactions, or from another database.
 */
export function createInvalidationListener ({ connect, notify, log }: InvalidationListenerDependencies) {
  const closing = new AbortController()
  // One for all attempts: each leaves its channel behind on a connection of a pooler in transaction mode.
  const own = `tenant_configs_${randomUUID().replaceAll('-', '')}`
  const health = {
    /** When it was last confirmed that no change was missed (ms of `performance.now()`). */
    lastConfirmedAt: -Infinity,
    /** Until when that holds without a new confirmation; in the past while the listener is down. */
    validUntil: -Infinity
  }

  function confirm (at: number): void {
    health.lastConfirmedAt = at
    // A process that was frozen has missed heartbeats, and must not count as up.
    health.validUntil = at + HEARTBEAT_INTERVAL_MS + HEARTBEAT_TIMEOUT_MS
  }

  /** Listens on one connection until it ends; throws the cause. */
  async function listen ({ onChanges, onConnect, onLoss, onRefusal }: Handlers): Promise<void> {
    const client = connect({
      application_name: 'whatsapp-tenant-config listen',
      connectionTimeoutMillis: HANDSHAKE_TIMEOUT_MS,
      query_timeout: HEARTBEAT_TIMEOUT_MS
    })
    let hasConnected = false
    const ended = new AbortController()
    const { signal } = ended
    const end = (err?: Error) => {
      ended.abort(err)
      // Fails every pending query. An orderly end would wait for a server that may not answer.
      client.connection.stream.destroy()
    }
    const close = () => { end() }
    client.on('error', end)
    client.on('end', end)
    // AbortSignal.any would keep each connection in memory for ever.
    closing.signal.addEventListener('abort', close)
    const handshakes = new EventEmitter()
    client.on('notification', ({ channel, payload = '' }) => {
      if (channel === own) handshakes.emit('arrived')
      else onChanges(parseChanges(payload))
    })
    try {
      await client.connect()
      hasConnected = true
      await client.query(`listen tenant_configs; listen ${own}`)
      const sentAt = performance.now()
      const deadline = setTimeout(() => { end(new Error('no notification arrives')) }, HANDSHAKE_TIMEOUT_MS)
      const arrived = once(handshakes, 'arrived', { signal })
      await Promise.all([arrived, notify(own)]).finally(() => { clearTimeout(deadline) })
      onConnect()
      confirm(sentAt)
      for (;;) {
        await delay(HEARTBEAT_INTERVAL_MS, undefined, { signal })
        const sentAt = performance.now()
        await client.query('select 1')
        confirm(sentAt)
      }
    } finally {
      const wasUp = health.validUntil > -Infinity
      health.validUntil = -Infinity
      closing.signal.removeEventListener('abort', close)
      end()
      if (!closing.signal.aborted) {
        if (!hasConnected) onRefusal()
        if (wasUp) onLoss()
      }
    }
  }

  async function keepListening (handlers: Handlers, attempted: () => void): Promise<void> {
    let backoff = FIRST_BACKOFF_MS
    const onConnect = () => {
      backoff = FIRST_BACKOFF_MS
      handlers.onConnect()

      log.info('changes of configurations are heard at once')
      attempted()
    }
    while (!closing.signal.aborted) {
      await listen({ ...handlers, onConnect }).catch((err: unknown) => {
        // An AbortError says only that the wait ended; its cause says why.
        const why = err instanceof Error && err.name === 'AbortError' ? err.cause : err
        if (!closing.signal.aborted && backoff === FIRST_BACKOFF_MS) log.warn({ err: why }, DOWN_MESSAGE)
      })
      attempted()
      // The jitter keeps many processes from reconnecting together.
      await delay(backoff * (0.5 + Math.random() / 2), undefined, { signal: closing.signal }).catch(() => {})
      backoff = Math.min(2 * backoff, MAX_BACKOFF_MS)
    }
  }

  let listening = Promise.resolve()
  return {
    health,

    /** Listens until `close`, and reconnects. Resolves once the first attempt has succeeded or failed. */
    open: async (handlers: Handlers): Promise<void> => {
      await new Promise<void>((resolve) => { listening = keepListening(handlers, resolve) })
    },

    /** Resolves when the connection is closed. */
    close: async (): Promise<void> => {
      closing.abort()
      await listening
    }
  }
}

const DOWN_MESSAGE = 'changes of configurations are not heard: until they are, ' +
  'what is cached is kept for CONFIG_CACHE_BLIND_TTL_MS only. ' +
  'If this stays, DATABASE_DIRECT_URL must lead to the database of DATABASE_URL without a pooler in between'

/** Reads a notification. A payload that is not our trigger's means that any row may have changed: null. */
function parseChanges (payload: string): RowChange[] | null {
  try {
    const changes: unknown = JSON.parse(payload)
    return Array.isArray(changes) && changes.every(isChange) ? changes : null
  } catch {
    return null
  }
}

function isChange (change: unknown): change is RowChange {
  return Array.isArray(change) && change.length === 3 && change[0] !== null &&
    change.every((id) => id === null || typeof id === 'string')
}

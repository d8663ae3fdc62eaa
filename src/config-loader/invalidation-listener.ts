import { EventEmitter, once } from 'node:events'
import { randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import type pg from 'pg'
import type { RowChange } from '../tenant-configs/tenant-configs.js'

const HANDSHAKE_TIMEOUT_MS = 3000
const HEARTBEAT_INTERVAL_MS = 2000
const HEARTBEAT_TIMEOUT_MS = 4000
const FIRST_BACKOFF_MS = 100
const MAX_BACKOFF_MS = 2000

interface Handlers {
  /** Told what rows have changed; null means that any may have. */
  onChanges: (changes: RowChange[] | null) => void
  /** Told that changes may have been missed until now. */
  onConnect: () => void
  /** Told that changes are missed from now on. */
  onLoss: () => void
}

interface Log { info: (text: string) => void, warn: (detail: { err: unknown }, text: string) => void }

export type InvalidationListener = ReturnType<typeof createInvalidationListener>

/**
 * Hears of every change of `tenant_configs` on a connection of its own. Takes `connect`, which makes a client that is not yet
 * connected, and `notify`, which sends an empty notification on a channel by another connection: only if that one arrives the channel
 * is up. Behind a pooler that changes connections between transactions, or on another database, none ever would.
 */
export function createInvalidationListener ({ connect, notify, log }: { connect: (config: pg.ClientConfig) => pg.Client, notify: (channel: string) => Promise<unknown>, log: Log }) {
  const closing = new AbortController()
  const health = {
    /** When the database last showed that no change was missed; milliseconds of `performance.now()`. */
    lastConfirmedAt: -Infinity,
    /** Until when that may be relied on without hearing again: the past while the channel is down. */
    validUntil: -Infinity
  }

  function confirm (at: number): void {
    health.lastConfirmedAt = at
    // A process that was frozen must not rely on what it did not hear meanwhile.
    health.validUntil = at + HEARTBEAT_INTERVAL_MS + HEARTBEAT_TIMEOUT_MS
  }

  /** One connection from its beginning to its end: throws why it ended. */
  async function listen ({ onChanges, onConnect, onLoss }: Handlers): Promise<void> {
    const client = connect({ application_name: 'whatsapp-tenant-config listen', connectionTimeoutMillis: HANDSHAKE_TIMEOUT_MS, query_timeout: HEARTBEAT_TIMEOUT_MS })
    const ended = new AbortController()
    const { signal } = ended
    const end = (err?: Error) => {
      ended.abort(err)
      // Whatever is waited for on it fails then. A goodbye would wait for one that does not answer.
      client.connection.stream.destroy()
    }
    const close = () => { end() }
    client.on('error', end)
    client.on('end', end)
    // AbortSignal.any would keep each connection in memory for ever.
    closing.signal.addEventListener('abort', close)
    const handshakes = new EventEmitter()
    const own = `tenant_configs_${randomUUID().replaceAll('-', '')}`
    client.on('notification', ({ channel, payload = '' }) => {
      if (channel === own) handshakes.emit('hello')
      else onChanges(parseChanges(payload))
    })
    try {
      await client.connect()
      await client.query(`listen tenant_configs; listen ${own}`)
      const sentAt = performance.now()
      const deadline = setTimeout(() => { end(new Error('no notification arrives')) }, HANDSHAKE_TIMEOUT_MS)
      await Promise.all([once(handshakes, 'hello', { signal }), notify(own)]).finally(() => { clearTimeout(deadline) })
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
      if (wasUp && !closing.signal.aborted) onLoss()
    }
  }

  async function keepListening (listeners: Handlers, attempted: () => void): Promise<void> {
    let backoff = FIRST_BACKOFF_MS
    const onConnect = () => {
      backoff = FIRST_BACKOFF_MS
      listeners.onConnect()
      log.info('changes of configurations are heard at once')
      attempted()
    }
    while (!closing.signal.aborted) {
      await listen({ ...listeners, onConnect }).catch((err: unknown) => {
        // Of what was waited for, only why the waiting ended tells something.
        const why = err instanceof Error && err.name === 'AbortError' ? err.cause : err
        if (!closing.signal.aborted && backoff === FIRST_BACKOFF_MS) log.warn({ err: why }, DOWN_MESSAGE)
      })
      attempted()
      // So that many do not come back at once.
      await delay(backoff * (0.5 + Math.random() / 2), undefined, { signal: closing.signal }).catch(() => {})
      backoff = Math.min(2 * backoff, MAX_BACKOFF_MS)
    }
  }

  let listening = Promise.resolve()
  return {
    health,

    /** Begins to listen, and goes on until `close`, whatever comes. Returns once the first attempt has succeeded or failed. */
    open: async (listeners: Handlers): Promise<void> => {
      await new Promise<void>((resolve) => { listening = keepListening(listeners, resolve) })
    },

    /** Ends the listening. */
    close: async (): Promise<void> => {
      closing.abort()
      await listening
    }
  }
}

const DOWN_MESSAGE = 'changes of configurations are not heard: until they are, what is cached is kept for CONFIG_CACHE_BLIND_TTL_MS only. ' +
  'If this stays, DATABASE_DIRECT_URL must lead to the database of DATABASE_URL without a pooler in between'

/** What a notification says; anything but our trigger's own words means that any row may have changed. */
function parseChanges (payload: string): RowChange[] | null {
  try {
    const changes: unknown = JSON.parse(payload)
    return Array.isArray(changes) && changes.every(isChange) ? changes : null
  } catch {
    return null
  }
}

function isChange (change: unknown): change is RowChange {
  return Array.isArray(change) && change.length === 3 && change.every((id) => id === null || typeof id === 'string') && change[0] !== null
}

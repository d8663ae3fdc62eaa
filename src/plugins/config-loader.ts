import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { LRUCache } from 'lru-cache'
import { ConfigSnapshot, type ConfigValues } from '../config-snapshot.js'
import { ConfigNotFound, TenantInactive } from '../errors.js'
import { isTenantId } from '../tenant-id.js'
import type { Env } from './env.js'
import type { TenantConfigRow, TenantConfigs } from './tenant-configs.js'
import type { Vault } from './vault.js'

declare module 'fastify' {
  interface FastifyInstance { configLoader: ConfigLoader }
}

/** What internal code gets its configurations from. */
export type ConfigLoader = ReturnType<typeof createConfigLoader>

interface LoaderDependencies {
  tenantConfigs: Pick<TenantConfigs, 'find' | 'onChange'>
  vault: Pick<Vault, 'open'>
  env: Env
}

/** What there is of a tenant. */
type Entry = ConfigSnapshot | 'inactive' | 'missing'
type Read = (tenantId: string) => Promise<Entry>

// No tenant id has a control character.
const ALL = '\0'

/**
 * Serves the configurations that internal code works with: the database first, `.env` second.
 * Rows are cached (`CONFIG_CACHE_MAX` entries, `CONFIG_CACHE_TTL_MS` milliseconds) and dropped when this process writes them; after
 * a write whose outcome is unknown they are not cached for as long. That a tenant has no row is never cached.
 */
export function createConfigLoader ({ tenantConfigs, vault, env }: LoaderDependencies) {
  const fallback = fallbackValues(env)
  const withoutRow = new ConfigSnapshot(null, fallback)
  const find = cached(read, tenantConfigs, env)

  async function read (tenantId: string): Promise<Entry> {
    const row = await tenantConfigs.find(tenantId)
    if (row === null) return 'missing'
    return row.is_active ? new ConfigSnapshot(openedValues(row, vault), fallback) : 'inactive'
  }

  /**
   * Returns the tenant's configuration of this moment.
   * Throws `DATABASE_UNAVAILABLE`, `SECRET_UNREADABLE`, where `CONFIG_FALLBACK` says so `TENANT_INACTIVE` and
   * `CONFIG_NOT_FOUND`, and a TypeError for what cannot be a tenant id: no fault is ever answered with the `.env` values.
   */
  async function forTenant (tenantId: string): Promise<ConfigSnapshot> {
    if (!isTenantId(tenantId)) throw new TypeError('a tenant id is a string of 1 to 100 characters without control characters')
    const entry = await find(tenantId)
    if (entry === 'missing') {
      if (env.CONFIG_FALLBACK === 'none') throw new ConfigNotFound()
      return withoutRow
    }
    if (entry === 'inactive') {
      if (env.CONFIG_FALLBACK !== 'missing-or-inactive') throw new TenantInactive()
      return withoutRow
    }
    return entry
  }

  return {
    forTenant,

    /** `getAllConfig()` of the tenant's configuration in one call; throws what `forTenant` does. */
    getWhatsappConfig: async (tenantId: string): Promise<ConfigValues> => (await forTenant(tenantId)).getAllConfig()
  }
}

/** `read` behind the cache: callers at once share one, and what a write may have replaced is read anew. */
function cached (read: Read, tenantConfigs: Pick<TenantConfigs, 'onChange'>, env: Env): Read {
  const bounds = { max: env.CONFIG_CACHE_MAX, ttl: env.CONFIG_CACHE_TTL_MS }
  const cache = new LRUCache<string, Exclude<Entry, 'missing'>>(bounds)
  const loads = new Map<string, Promise<Entry>>()

  // Writes that may yet be carried out: a database that was frozen does so when it wakes, and tells nobody.
  const pending = new LRUCache<string, true>(bounds)

  tenantConfigs.onChange((tenantId, isSettled) => {
    if (isSettled) pending.delete(tenantId ?? ALL)
    else pending.set(tenantId ?? ALL, true)
    // A load on its way is forgotten too: it may have read what the write replaced, and commits only while it is known.
    if (tenantId === null) {
      cache.clear()
      loads.clear()
    } else {
      cache.delete(tenantId)
      loads.delete(tenantId)
    }
  })

  return async (tenantId) => cache.get(tenantId) ?? await load(tenantId)

  function load (tenantId: string): Promise<Entry> {
    const known = loads.get(tenantId)
    if (known !== undefined) return known
    const loading = read(tenantId).then((entry) => {
      const mayChange = pending.has(tenantId) || pending.has(ALL)
      if (loads.get(tenantId) === loading && entry !== 'missing' && !mayChange) cache.set(tenantId, entry)
      return entry
    }).finally(() => {
      if (loads.get(tenantId) === loading) loads.delete(tenantId)
    })
    loads.set(tenantId, loading)
    return loading
  }
}

function fallbackValues (env: Env): ConfigValues {
  return {
    phone_id: env.WHATSAPP_PHONE_ID ?? null,
    access_token: env.WHATSAPP_TOKEN ?? null,
    waba_id: env.WHATSAPP_WABA_ID ?? null,
    fb_app_id: env.FB_APP_ID ?? null,
    fb_app_secret: env.FB_APP_SECRET ?? null,
    callback_url: env.CALLBACK_URL ?? null,
    redirect_url: env.REDIRECT_URL ?? null,
    verify_token: env.VERIFY_TOKEN ?? null,
    token_expires_at: null
  }
}

function openedValues (row: TenantConfigRow, vault: Pick<Vault, 'open'>): ConfigValues {
  const open = (column: 'access_token' | 'fb_app_secret' | 'verify_token') =>
    row[column] === null ? null : vault.open(row[column], row.tenant_id, column)
  return {
    phone_id: row.phone_number_id,
    access_token: open('access_token'),
    waba_id: row.waba_id,
    fb_app_id: row.fb_app_id,
    fb_app_secret: open('fb_app_secret'),
    callback_url: row.callback_url,
    redirect_url: row.redirect_url,
    verify_token: open('verify_token'),
    token_expires_at: row.token_expires_at
  }
}

/** Decorates `fastify.configLoader`. */
async function configLoader (fastify: FastifyInstance): Promise<void> {
  const { tenantConfigs, vault, env } = fastify
  fastify.decorate('configLoader', createConfigLoader({ tenantConfigs, vault, env }))
}

export default fp(configLoader, { name: 'config-loader', dependencies: ['env', 'vault', 'tenant-configs'] })

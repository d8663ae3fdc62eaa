import { setImmediate } from 'node:timers/promises'
import type { ConfigSnapshot } from '../../../src/app.js'
import { clock } from '../measure/clock.js'
import { TIMEOUT_US, perOne, serve } from './serve.js'
import { inFlight } from './in-flight.js'
import { service } from './service.js'
import { tenantIds } from './tenant-ids.js'

// A process that uses the loader, and does not serve HTTP.
const { configLoader } = await service()
const keys = await tenantIds()
const map = new Map<string, ConfigSnapshot>()

/** Random keys, `count` of the first `range`; loader and map are called with the same strings as at the fill. */
const picked = (count: number, range: number) =>
  Array.from({ length: count }, () => keys[Math.floor(Math.random() * range)] ?? '')

serve({
  /** Loads the tenants of this range of the keys. */
  load: async (from, count) =>
    await perOne(count, async () => { await inFlight(keys.slice(from, from + count), configLoader.forTenant) }),

  async forTenant (count, range) {
    const requested = picked(count, range)
    return await perOne(count, async () => { for (const key of requested) await configLoader.forTenant(key) })
  },

  async fillMap () {
    for (const key of keys) map.set(key, await configLoader.forTenant(key))
    return map.size
  },

  async mapGet (count, range) {
    const requested = picked(count, range)
    return await perOne(count, async () => { for (const key of requested) await map.get(key) })
  },

  /** Bytes in use after a garbage collection. */
  heap () {
    global.gc?.()
    const { heapUsed, external } = process.memoryUsage()
    return heapUsed + external
  },

  /** Polls until a tenant has this app id; returns the time. */
  async see (tenant, appId) {
    for (const end = clock() + TIMEOUT_US; clock() < end; await setImmediate()) {
      if ((await configLoader.forTenant(keys[tenant] ?? '')).getAllConfig().fb_app_id === String(appId)) return clock()
    }
    return Infinity
  }
})

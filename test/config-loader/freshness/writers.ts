import type pg from 'pg'
import type { Test } from 'tap'
import { createVault } from '../../../src/vault/vault.js'
import { connect } from '../../helper.js'
import { columnsOf, History, now, type Row } from './history.js'
import { signed } from '../../fixtures/server-process.js'

const CONFIG = '/api/v1/tenant/config'
const PUT = `
  insert into tenant_configs (
    tenant_id, is_active, phone_number_id, waba_id, access_token, fb_app_id, fb_app_secret, verify_token, callback_url,
    redirect_url
  )
  values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
  on conflict (tenant_id) do update set
    is_active = excluded.is_active, phone_number_id = excluded.phone_number_id, waba_id = excluded.waba_id,
    access_token = excluded.access_token, fb_app_id = excluded.fb_app_id, fb_app_secret = excluded.fb_app_secret,
    verify_token = excluded.verify_token, callback_url = excluded.callback_url,
    redirect_url = excluded.redirect_url`

/** Addresses for writes by HTTP on an instance, and by SQL. */
interface Target { url: string, origin: string, jwtSecret: string, keyRing: string }

export type Change = readonly [tenant: string, row: Row | null]

export type Writers = ReturnType<typeof createWriters>

/** Writes rows, and records each write with its times in a history. */
export function createWriters ({ url, origin, jwtSecret, keyRing }: Target) {
  const vault = createVault({ keyRing })
  const history = new History()
  const rows = new Map<string, Row | null>()
  const tokens = new Map<string, string>()

  async function recorded (changes: Change[], write: () => Promise<unknown>): Promise<void> {
    const begun = now()
    const acked = await write().then(now, (err: unknown) => {
      for (const [tenant, row] of changes) history.add({ tenant, row, begun, acked: Infinity })
      throw err
    })
    for (const [tenant, row] of changes) {
      history.add({ tenant, row, begun, acked })
      rows.set(tenant, row)
    }
  }

  function put (sql: pg.Client, tenant: string, row: Row) {
    const { access_token, fb_app_id, fb_app_secret, verify_token, ...columns } = columnsOf(tenant, row)
    const seal = (column: 'access_token' | 'fb_app_secret' | 'verify_token', clear: string) => vault.seal(
      clear,
      tenant,
      column
    )
    return sql.query({
      name: 'put',
      text: PUT,
      values: [
        tenant, row.isActive, columns.phone_number_id, columns.waba_id, seal('access_token', access_token), fb_app_id,
        seal('fb_app_secret', fb_app_secret), seal('verify_token', verify_token), columns.callback_url,
        columns.redirect_url
      ]
    })
  }

  const change = (sql: pg.Client, tenant: string, row: Row | null) =>
    row === null ? sql.query('delete from tenant_configs where tenant_id = $1', [tenant]) : put(sql, tenant, row)

  /** Writes rows by SQL, several in one transaction. An error of `pg` leaves the outcome unknown. */
  async function bySql (sql: pg.Client, ...changes: Change[]): Promise<void> {
    const [[tenant, row] = []] = changes
    await recorded(changes, async () => {
      if (changes.length === 1 && tenant !== undefined && row !== undefined) return await change(sql, tenant, row)
      await sql.query('begin')
      // Frees the numbers first: a swap would use one number twice for a moment.
      await sql.query(
        'update tenant_configs set phone_number_id = null where tenant_id = any($1)',
        [changes.map(([tenant]) => tenant)]
      )
      for (const [tenant, row] of changes) await change(sql, tenant, row)
      await sql.query('commit')
    })
  }

  async function call (method: string, path: string, tenant: string, body?: object): Promise<void> {
    const token = tokens.get(tenant) ?? signed({ tenant_id: tenant }, jwtSecret)
    tokens.set(tenant, token)
    const reply = await fetch(`${origin}${path}`, {
      method,
      headers: { authorization: `Bearer ${token}`, ...(body && { 'content-type': 'application/json' }) },
      ...(body && { body: JSON.stringify(body) })
    })
    await reply.arrayBuffer()
    if (!reply.ok) throw new Error(`${method} ${path} of ${tenant}: ${reply.status}`)
  }

  /** Writes a row by HTTP; its number must be free. */
  async function byHttp (tenant: string, row: Row | null): Promise<void> {
    const before = rows.get(tenant) ?? null
    await recorded([[tenant, row]], async () => {
      if (row === null) await call('DELETE', CONFIG, tenant)
      else if (before === null) await call('POST', CONFIG, tenant, columnsOf(tenant, row))
      else if (before.isActive !== row.isActive) {
        await call('POST', `${CONFIG}/${row.isActive ? 'activate' : 'deactivate'}`, tenant)
      } else await call('PUT', CONFIG, tenant, columnsOf(tenant, row))
    })
  }

  return { history, rows, bySql, byHttp, connect: async (t: Test) => await connect(t, url) }
}

const randomOf = <T> (all: T[]) => all[Math.floor(Math.random() * all.length)]

/**
 * A writer that creates, changes, deletes and toggles its tenants at random, and moves numbers and accounts among them.
 * Returns the function for its next write, by HTTP or by SQL.
 */
export function createWriter ({ rows, byHttp, bySql }: Writers, sql: pg.Client, tenants: string[], accounts: string[]) {
  const free: string[] = []
  let version = 0

  async function write (...changes: Change[]): Promise<void> {
    if (Math.random() < 0.5) return await bySql(sql, ...changes)
    const [[first, row] = []] = changes
    if (changes.length === 1 || first === undefined || !row) {
      for (const [tenant, row] of changes) await byHttp(tenant, row)
      return
    }
    // HTTP writes one row at a time, so each number must be free before its write.
    await byHttp(first, { ...row, number: null, version: ++version })
    for (const [tenant, row] of changes.toReversed()) await byHttp(tenant, row && { ...row, version: ++version })
  }

  /** Makes one random change to one or two of its tenants. */
  return async function next (): Promise<void> {
    const [tenant = '', other = ''] = [randomOf(tenants), randomOf(tenants)]
    const [row, another] = [rows.get(tenant), rows.get(other)]
    const chance = Math.random()
    if (!row) {
      return await write([
        tenant,
        { version: ++version, isActive: true, number: free.pop() ?? null, account: randomOf(accounts) ?? null }
      ])
    }
    if (chance < 0.1) {
      await write([tenant, null])
      if (row.number !== null) free.push(row.number)
      return
    }
    if (chance < 0.2) return await write([tenant, { ...row, isActive: !row.isActive }])
    if (chance < 0.35) return await write([tenant, { ...row, version: ++version, account: randomOf(accounts) ?? null }])
    if (chance < 0.6 && another && other !== tenant) {
      return await write(
        [tenant, { ...row, version: ++version, number: another.number }],
        [other, { ...another, version: ++version, number: row.number }]
      )
    }
    await write([tenant, { ...row, version: ++version }])
  }
}

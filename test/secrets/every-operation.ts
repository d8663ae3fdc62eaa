import { createHmac } from 'node:crypto'
import { canary } from './canaries.js'
import { CONFIG, secrets, type Send } from './database-faults.js'
import type { Answer } from './misplaced.js'
import { until } from '../helper.js'
import type { Graph } from '../graph/server.js'

const BASE = '/api/v1/tenant'
const ONBOARD = `${BASE}/onboard/whatsapp-client`
export const KEYS = `${BASE}/admin/service-keys`
export const RESOLVE = `${BASE}/resolve`
const TENANT = 'complete'

interface Setup {
  send: Send
  meta: Graph
  app: { app_id: string, app_secret: string }
  /** WEBHOOK_VERIFY_TOKEN */
  verifyToken: string
}

const memberOf = ({ body }: Answer, name: string): string => String(JSON.parse(body)[name])

/** Uses each operation of the service with success, with secrets wherever it takes some, and leaves rows behind. */
export async function useEveryOperation (setup: Setup): Promise<void> {
  const { send } = setup
  const own = async (method: string, path: string, body?: object, headers = {}) =>
    await send(TENANT, method, path, body, headers)
  const twice = async (path: string, body: object) => {
    const again = { 'idempotency-key': canary('idempotency_key') }
    for (let i = 0; i < 2; i++) await own('POST', path, body, again)
  }

  for (const path of ['live', 'ready']) await own('GET', `/health/${path}`)
  await twice(CONFIG, secrets())
  await own('PUT', CONFIG, secrets())
  await onboard(setup, own, twice)
  for (const path of ['', '/full', '/effective', '/health', '/audit', '/versions', '/versions/1']) {
    await own('GET', CONFIG + path)
  }
  for (const path of ['versions/1/restore', 'deactivate', 'activate']) await own('POST', `${CONFIG}/${path}`)
  await useKeys(own)
  await administer(own)
  await own('POST', CONFIG, secrets())
  await onboard(setup, own, twice)
  await own('POST', KEYS, { name: 'a key', scopes: ['credentials:read'] })
}

async function onboard (
  { meta, app, verifyToken }: Setup,
  own: (method: string, path: string, body?: object, headers?: Record<string, string>) => Promise<Answer>,
  twice: (path: string, body: object) => Promise<void>
): Promise<void> {
  const waba = meta.state.addWaba({ app_ids: [app.app_id], phones: [{ id: '7001' }, { id: '7002' }] })
  const code = () => meta.state.issueCode({ app_id: app.app_id, code: canary('code') })
  const grant = () => {
    const token = meta.state.issueToken({ app_id: app.app_id }, canary('granted_token'))
    meta.fail('access_token', { patch: { access_token: token } })
    return token
  }
  await own('POST', `${ONBOARD}/start`, { redirect_uri: 'https://a.example/cb' })
  // Which of the two numbers, only the resumption says.
  grant()
  await twice(ONBOARD, { code: code(), waba_id: waba.id, pin: '190285' })
  await twice(`${ONBOARD}/resume`, { phone_number_id: '7001', pin: '190285' })
  const token = grant()
  await twice(ONBOARD, { code: code(), waba_id: waba.id, phone_number_id: '7002', pin: '190285' })
  await own('GET', ONBOARD)
  const credentials = { waba_id: waba.id, phone_number_id: '7002', access_token: token }
  await own('POST', `${CONFIG}/verify`, { ...credentials, fb_app_secret: canary('fb_app_secret') })
  await own('POST', `${CONFIG}/verify`)

  const update = { object: 'whatsapp_business_account', entry: [{ id: '1', time: Date.now(), changes: [] }] }
  const signature = createHmac('sha256', app.app_secret).update(JSON.stringify(update)).digest('hex')
  const webhook = `${BASE}/onboard/account-update`
  await own('POST', webhook, update, { 'x-hub-signature-256': `sha256=${signature}` })
  await own('GET', `${webhook}?hub.mode=subscribe&hub.challenge=1&hub.verify_token=${verifyToken}`)
}

async function useKeys (
  own: (method: string, path: string, body?: object, headers?: Record<string, string>) => Promise<Answer>
): Promise<void> {
  const scopes = ['credentials:read', 'configs:read']
  for (const limits of [{}, { tenants: [TENANT] }]) {
    const created = await own('POST', KEYS, { name: 'a key', scopes, ...limits })
    const key = { authorization: `Bearer ${memberOf(created, 'key')}` }
    for (const query of [`tenant_id=${TENANT}`, 'phone_number_id=7002', 'waba_id=1', 'tenant_id=nobody']) {
      await own('GET', `${RESOLVE}?${query}`, undefined, key)
    }
    for (const path of ['all', 'stats', `effective/${TENANT}`]) {
      await own('GET', `${BASE}/admin/configs/${path}`, undefined, key)
    }
    await own('GET', KEYS)
    await own('DELETE', `${KEYS}/${memberOf(created, 'id')}`)
    await own('GET', `${RESOLVE}?tenant_id=${TENANT}`, undefined, key)
  }
}

async function administer (
  own: (method: string, path: string, body?: object) => Promise<Answer>
): Promise<void> {
  const admin = `${BASE}/admin`
  for (const path of ['configs/all', 'configs/stats', `configs/effective/${TENANT}`, 'audit']) {
    await own('GET', `${admin}/${path}`)
  }
  await until(async () => {
    const [event] = JSON.parse((await own('GET', `${admin}/events?state=delivered`)).body).events
    return event !== undefined && (await own('POST', `${admin}/events/${event.id}/redeliver`)).status === 200
  })
  await own('DELETE', CONFIG)
  await own('POST', `${admin}/configs/restore`, { tenant_id: TENANT })
  const { body } = await own('DELETE', `${admin}/configs/delete-all`)
  const deleted = await own('DELETE', `${admin}/configs/delete-all?confirm=${JSON.parse(body).confirm}`)
  await own('POST', `${admin}/configs/restore`, { batch_id: memberOf(deleted, 'batch_id') })
  await own('DELETE', `${admin}/configs/delete-tenant/${TENANT}?purge=true`)
}

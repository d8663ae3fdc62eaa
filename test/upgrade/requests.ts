import { randomBytes, randomInt } from 'node:crypto'
import { signer } from '../bench/stage/token.js'
import type { Graph } from '../graph/server.js'
import type { Waba } from '../graph/state.js'
import { newKey } from '../helper.js'
import type { Call } from './traffic.js'

const BASE = '/api/v1/tenant'
const APP = {
  app_id: '670843887433847',
  app_secret: randomBytes(16).toString('hex'),
  callback_url: 'https://platform.example/hook'
}
/** The number of tenants with continuous requests. */
const REGULARS = 200

/** The settings of both versions, and the requests of tenants. */
export function createRequests (databaseUrl: string, meta: Graph) {
  const secret = randomBytes(48).toString('base64')
  const sign = signer(secret)
  meta.state.addApp(APP)
  let customers = 0

  const call = (method: string, path: string, tenant: string, body?: object): Call => ({
    method,
    path: BASE + path,
    headers: sign({ tenant_id: tenant }),
    body
  })

  /** The request of a login that Meta grants. */
  function login (tenant: string, waba: Waba = meta.state.addWaba({ app_ids: [APP.app_id] })): Call {
    const body = {
      code: meta.state.issueCode({ app_id: APP.app_id }),
      waba_id: waba.id,
      phone_number_id: String(waba.phones[0]?.id)
    }
    return call('POST', '/onboard/whatsapp-client', tenant, body)
  }

  const regular = (number = randomInt(REGULARS)) => `regular-${number}`
  const write = (tenant: string, method: string, more: object = {}) =>
    call(method, '/config', tenant, {
      callback_url: `https://${randomBytes(8).toString('hex')}.example.com/`,
      verify_token: randomBytes(16).toString('hex'),
      ...more
    })

  return {
    sign,
    call,
    login,
    settings: {
      NODE_ENV: 'test',
      LOG_LEVEL: 'warn',
      DATABASE_URL: databaseUrl,
      JWT_SECRET: secret,
      ENCRYPTION_KEYS: `k1:${newKey()}`,
      GRAPH_API_BASE_URL: meta.url,
      FB_APP_ID: APP.app_id,
      FB_APP_SECRET: APP.app_secret
    },
    addWaba: (phones: Array<{ id: string }>) => meta.state.addWaba({ app_ids: [APP.app_id], phones }),
    /** Creates the tenants of `next`. */
    creations: (): Call[] => Array.from({ length: REGULARS }, (_, number) => write(
      regular(number),
      'POST',
      { waba_id: String(number), access_token: 'a-token' }
    )),
    /** The next request: a read, a write, a new tenant or a login. */
    next (): Call {
      const kind = randomInt(20)
      if (kind === 0) return login(`customer-${++customers}`)
      if (kind === 1) return write(`new-${++customers}`, 'POST', { access_token: 'a-token' })
      if (kind < 6) return write(regular(), 'PUT')
      if (kind === 6) return write(regular(), 'PUT', { access_token: randomBytes(32).toString('hex') })
      return call('GET', kind < 14 ? '/config/full' : '/config/health', regular())
    }
  }
}

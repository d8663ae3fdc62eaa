import { Agent, request } from 'node:http'
import { constants, setPriority } from 'node:os'
import { setTimeout as delay } from 'node:timers/promises'
import { signer } from '../stage/token.js'
import { serve, settings } from './serve.js'

// Elsewhere clients have machines of their own: here they get the CPU time that the service leaves.
setPriority(constants.priority.PRIORITY_LOW)

const api = '/api/v1/tenant'
const code = { code: 'a-code', waba_id: '102290129340398', phone_number_id: '106540352242922' }

/** Every route that a tenant can reach, and those that refuse it. */
const ROUTES: Array<[method: string, path: string, body?: object]> = [
  ['GET', '/config'],
  ['GET', '/config/full'],
  ['GET', '/config/effective'],
  ['GET', '/config/health'],
  ['PUT', '/config', { verify_token: 'a-verify-token' }],
  ['POST', '/config', {}],
  ['POST', '/config/deactivate'],
  ['POST', '/config/activate'],
  ['POST', '/config/verify'],
  ['POST', '/onboard/whatsapp-client/start', { redirect_uri: 'https://a.example' }],
  ['POST', '/onboard/whatsapp-client', code],
  ['POST', '/onboard/whatsapp-client/resume'],
  ['GET', '/onboard/whatsapp-client'],
  ['GET', '/nothing'],
  ['GET', '/admin/configs/all'],
  ['POST', '/onboard/account-update', {}],
  ['DELETE', '/config?unsubscribe=true']
]

const origins = String(settings['FLOOD_ORIGINS']).split(',')
const authorize = signer(settings.JWT_SECRET)
const flooding = String(settings['FLOOD_TENANTS']).split(',').map((tenant_id, i) => (
  { ...authorize({ tenant_id }), 'x-forwarded-for': `198.51.100.${i}`, 'content-type': 'application/json' }
))
// Few enough that the flood is not one of connections: a proxy keeps that away.
const agent = new Agent({ keepAlive: true, maxSockets: 100 })
let refused = 0

/** Sends a request and waits for nothing. */
function send (number: number): void {
  const [method, path, body] = ROUTES[Math.floor(number / flooding.length / origins.length) % ROUTES.length] ?? []
  const origin = origins[Math.floor(number / flooding.length) % origins.length] ?? ''
  const headers = flooding[number % flooding.length]
  const sent = request(origin + api + path, { method, agent, headers }, (response) => {
    if (response.statusCode === 429) refused++
    response.resume()
  })
  sent.on('error', () => {})
  sent.end(body && JSON.stringify(body))
}

/** Sends so many requests a second, for so long; returns how many were refused with 429. */
async function flood (perSecond: number, seconds: number): Promise<number> {
  const began = performance.now()
  for (let sent = 0; sent < perSecond * seconds; await delay(2)) {
    const due = Math.floor((performance.now() - began) / 1000 * perSecond)
    while (sent < due) send(sent++)
  }
  return refused
}

serve({ flood })

import { once } from 'node:events'
import { createServer } from 'node:http'
import type { Test } from 'tap'
import * as errors from '../../src/errors.js'
import { openPage } from './browser.js'
import type { Session } from './session.js'

/**
 * An account at Meta with the phone numbers 201, 202 and 203, and new codes for it. The last number is +1 631-555-0203,
 * Lucky Shrub.
 */
interface Meta {
  waba: string
  codes: () => string
}

/**
 * Uses the sign-up page as a customer does. Meta's two messages arrive in either order, the state before or after them.
 */
export async function signUp (t: Test, { origin, run }: Session, html: string, { waba, codes }: Meta): Promise<void> {
  const finished = (data: object) => JSON.stringify({ type: 'WA_EMBEDDED_SIGNUP', event: 'FINISH', version: 3, data })
  for (const [tenant, phone, isCodeFirst, isStateFirst] of [
    ['page-1', '201', true, true], ['page-2', '202', false, false]
  ] as const) {
    const token = (await run(`node dist/cli/token.js --tenant ${tenant}`)).stdout.trim()
    const headers = { authorization: `Bearer ${token}` }
    const page = openPage(html, origin, token)
    page.click('connect')
    const [login] = page.logins
    t.match(login?.options, { config_id: String, response_type: 'code', override_default_response_type: true })
    const code = () => login?.answer({ status: 'connected', authResponse: { code: codes() } })
    const account = () => page.post('https://www.facebook.com', finished({ waba_id: waba, phone_number_id: phone }))

    for (const foreign of [
      'https://evilfacebook.com', 'https://facebook.com.evil.example', 'http://www.facebook.com', 'null'
    ]) page.post(foreign, finished({ waba_id: '1', phone_number_id: '666' }))
    page.post('https://www.facebook.com', 'not JSON')
    page.post('https://www.facebook.com', '{"type":"something else"}')
    page.post('https://www.facebook.com', 'null')
    if (isStateFirst) await page.settledText('status')
    if (isCodeFirst) code()
    else account()
    t.equal(page.requests(), 0, 'the page waits for both messages')
    if (isCodeFirst) account()
    else code()
    t.equal(page.requests(), isStateFirst ? 1 : 0, 'the page sends one request, once it has the state')
    t.equal(await page.settledText('status'), 'Connected.')
    t.equal(page.requests(), 1)
    const config = await fetch(`${origin}/api/v1/tenant/config`, { headers })
    t.match(await config.json(), {
      tenant_id: tenant,
      waba_id: waba,
      phone_number_id: phone,
      onboarding_completed: true
    })
    // A reader without Meta has no such tenants.
    await fetch(`${origin}/api/v1/tenant/config`, { method: 'DELETE', headers })
  }

  const token = (await run('node dist/cli/token.js --tenant page-3')).stdout.trim()
  const page = openPage(html, origin, token)
  page.click('connect')
  page.logins[0]?.answer({ status: 'unknown', authResponse: null })
  t.match(await page.settledText('status'), 'not finished')
  page.post(
    'https://www.facebook.com',
    JSON.stringify({ type: 'WA_EMBEDDED_SIGNUP', event: 'CANCEL', data: { current_step: 'PERMISSIONS' } })
  )
  t.match(await page.settledText('status'), 'not finished')
  page.click('connect')
  page.logins[1]?.answer({ status: 'connected', authResponse: { code: 'not-a-code' } })
  page.post(
    'https://www.facebook.com',
    JSON.stringify({ type: 'WA_EMBEDDED_SIGNUP', event: 'FINISH_ONLY_WABA', data: { waba_id: waba } })
  )
  t.match(await page.settledText('status'), new errors.MetaCodeInvalid().message)

  page.click('connect')
  page.logins[2]?.answer({ status: 'connected', authResponse: { code: codes() } })
  page.post(
    'https://www.facebook.com',
    JSON.stringify({
      type: 'WA_EMBEDDED_SIGNUP',
      event: 'FINISH_WHATSAPP_BUSINESS_APP_ONBOARDING',
      data: { waba_id: waba }
    })
  )
  t.match(await page.settledText('status'), 'Which number')
  page.choose('numbers', '+1 631-555-0203 (Lucky Shrub)')
  t.equal(await page.settledText('status'), 'Connected.')
  const headers = { authorization: `Bearer ${token}` }
  t.match(await (await fetch(`${origin}/api/v1/tenant/config`, { headers })).json(), { phone_number_id: '203' })
  await fetch(`${origin}/api/v1/tenant/config`, { method: 'DELETE', headers })

  for (const [body, isStateGiven] of [
    ['<html>Bad Gateway</html>', true], ['null', true], [undefined, true], [undefined, false], ['null', false]
  ] as const) {
    const proxy = createServer((request, reply) => {
      if (isStateGiven && request.url?.endsWith('/start')) reply.end('{"state":"a-state"}')
      else if (body === undefined) request.socket.destroy()
      else reply.writeHead(502).end(body)
    }).listen(0, '127.0.0.1')
    await once(proxy, 'listening')
    const address = proxy.address()
    const page = openPage(html, `http://127.0.0.1:${typeof address === 'object' && address?.port}`, 'a-token')
    page.click('connect')
    page.logins[0]?.answer({ status: 'connected', authResponse: { code: 'a-code' } })
    page.post('https://www.facebook.com', finished({ waba_id: waba, phone_number_id: '201' }))
    t.match(await page.settledText('status'), 'connect again', `the proxy answers ${body}`)
    t.equal(page.requests(), isStateGiven ? 2 : 0, 'the page repeats only a request with a state')
    proxy.close()
  }
}

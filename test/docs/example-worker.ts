import { spawn } from 'node:child_process'
import { createHmac } from 'node:crypto'
import { once } from 'node:events'
import { createServer } from 'node:http'
import { symlinkSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import type { Test } from 'tap'
import { verifyStored } from '../fixtures/verified-rows.js'
import { textOf as bodyOf } from '../graph/body.js'
import { startGraph } from '../graph/server.js'
import type { App } from '../graph/state.js'
import { baseEnv, buildTestApp, childEnv, until } from '../helper.js'
import { blocksOf, textOf } from './markdown.js'

/** The examples of the guide that use the loader outside Fastify. */
export const examples = blocksOf(textOf('docs/TENANT_CONFIG_GUIDE.md')).filter(
  ({ language, text }) => language === 'js' && text.includes('createConfigLoader')
)

/** Starts a stand-in of Meta with two apps; `start` runs the example of the guide against it. */
export async function exampleWorker (t: Test) {
  const graph = await startGraph()
  t.teardown(graph.close)
  const platform = graph.state.addApp()
  const theirs = graph.state.addApp({ require_proof: true })

  /** An account at Meta with one number, as columns of a tenant's configuration. */
  function account (app: App, phone: string) {
    const { id } = graph.state.addWaba({ app_ids: [app.app_id], phones: [{ id: phone, registered: true }] })
    return {
      waba_id: id,
      phone_number_id: phone,
      access_token: graph.state.issueToken({ app_id: app.app_id, waba_ids: [id] })
    }
  }

  /** The messages that Meta was asked to send since the last call. */
  const sent = () => graph.requests.splice(0).map(({ path, headers, query, form }) => ({
    from: path,
    token: headers.authorization,
    proof: query['appsecret_proof'],
    to: form['to'],
    text: JSON.parse(form['text'] ?? '').body
  }))

  /** A message of a tenant to Meta, as `sent` returns it. */
  const message = (tenant: ReturnType<typeof account>, app: App, to: string, text: string) => ({
    from: `/v26.0/${tenant.phone_number_id}/messages`,
    token: `Bearer ${tenant.access_token}`,
    proof: createHmac('sha256', app.app_secret).update(tenant.access_token).digest('hex'),
    to,
    text
  })

  /**
   * Starts the service with two tenants, one of them with its own app, and the example in a second process. `timeoutMs`
   * is the timeout of the example for Meta.
   */
  async function start (t: Test, { own = {}, timeoutMs = '10_000' } = {}) {
    const settings = {
      FB_APP_ID: platform.app_id,
      FB_APP_SECRET: platform.app_secret,
      GRAPH_API_BASE_URL: graph.url,
      CONFIG_FALLBACK: 'none',
      ...own
    }
    const { app, databaseUrl } = await buildTestApp(t, settings)
    const [acme, shop] = [account(platform, '101'), account(theirs, '202')]
    await app.tenantConfigs.create('acme', null, acme)
    const ownApp = { fb_app_id: theirs.app_id, fb_app_secret: theirs.app_secret }
    await app.tenantConfigs.create('shop', null, { ...shop, ...ownApp })
    for (const tenant of ['acme', 'shop']) t.equal(await verifyStored(app, tenant), 'saved')

    const dir = exampleDir(t, timeoutMs)
    // The build may be older than the sources whose coverage is measured.
    const env = childEnv({
      ...settings,
      DATABASE_URL: databaseUrl,
      ENCRYPTION_KEYS: baseEnv.ENCRYPTION_KEYS,
      LOG_LEVEL: 'silent',
      _TAPJS_PROCESSINFO_COVERAGE_: '0'
    })
    const child = spawn(process.execPath, ['example.mjs'], { cwd: dir, env })
    t.teardown(() => { child.kill('SIGKILL') })
    const lines: string[] = []
    for (const stream of [child.stdout, child.stderr]) {
      stream.on('data', (data) => { lines.push(...String(data).trimEnd().split('\n')) })
    }
    const closed = once(child, 'close')
    const write = (line: string) => { child.stdin.write(`${line}\n`) }
    const post = (job: object) => { write(JSON.stringify(job)) }
    return {
      app,
      databaseUrl,
      acme,
      shop,
      write,
      post,
      send: (tenant: string, text: string) => post({ tenant, to: '16505551234', text }),
      /** The next lines of the worker, once it has reported the outcome of so many messages. */
      async printed (messages: number) {
        await until(
          () => lines.filter((line) => /: sent from |^Failed: |^Passed over: /.test(line)).length >= messages ||
            child.exitCode !== null
        )
        return lines.splice(0)
      },
      async end () {
        child.stdin.end()
        const [code] = await closed
        return code
      }
    }
  }

  /** Delivers a webhook with a message to each number, signed by an app, to the worker. */
  async function deliver (t: Test, post: (job: object) => void, app: App, ...phones: string[]) {
    const server = createServer(async (req, res) => {
      post({ webhook: await bodyOf(req), signature: req.headers['x-hub-signature-256'] })
      res.end()
    }).listen(0, '127.0.0.1')
    await once(server, 'listening')
    t.teardown(() => { server.close() })
    const address = server.address()
    const url = `http://127.0.0.1:${typeof address === 'object' && address?.port}`
    t.match(await graph.deliver(app.app_id, webhookBody(phones), { url }), { statuses: [200] })
  }

  return { graph, platform, theirs, account, sent, message, start, deliver }
}

/** A directory with the example, in which its imports resolve. */
function exampleDir (t: Test, timeoutMs: string): string {
  const dir = t.testdir({ node_modules: {} })
  symlinkSync(resolve('node_modules/@kapso'), join(dir, 'node_modules/@kapso'))
  symlinkSync(resolve('.'), join(dir, 'node_modules/whatsapp-tenant-config'))
  const parts = examples[0]?.text.split('10_000') ?? []
  t.equal(parts.length, 2, 'the example contains its timeout once')
  writeFileSync(join(dir, 'example.mjs'), parts.join(timeoutMs))
  return dir
}

/** A webhook of Meta with a status, an account update, and a message to each number. */
function webhookBody (phones: string[]) {
  const change = (phone: string) => ({
    field: 'messages',
    value: {
      messaging_product: 'whatsapp',
      metadata: { display_phone_number: '16315555555', phone_number_id: phone },
      contacts: [{ profile: { name: 'Zoë' }, wa_id: '16505559999' }],
      messages: [
        { from: '16505559999', id: 'wamid.HBgL1', timestamp: '1795450736', type: 'text', text: { body: 'Grüße' } }
      ]
    }
  })
  const status = {
    field: 'messages',
    value: {
      messaging_product: 'whatsapp',
      metadata: { phone_number_id: phones[0] },
      statuses: [{ id: 'wamid.HBgL0', status: 'read' }]
    }
  }
  const update = { field: 'account_update', value: { event: 'VERIFIED_ACCOUNT' } }
  return {
    object: 'whatsapp_business_account',
    entry: [{ id: '1', changes: [update, status] }, { id: '2', changes: phones.map(change) }]
  }
}

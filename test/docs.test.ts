import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import t, { type Test } from 'tap'
import * as errors from '../src/errors.js'
import { readEnv, settingNames } from '../src/plugins/env.js'
import { openPage } from './docs/browser.js'
import { anchorsOf, blocksOf, documents, tableOf, textOf, type Block } from './docs/markdown.js'
import { openSession, type Output, type Session } from './docs/session.js'
import { startGraph } from './graph/server.js'
import { baseEnv, buildTestApp, createDatabase } from './helper.js'

// Some forty processes, most of them npm and Node: on a busy machine that takes its time.
t.setTimeout(300_000)

/** Commands that cannot run within a test; `.ci/run` runs them, on a fresh clone. */
const ELSEWHERE = ['npm ci', 'npm test', 'npm run demo']

const DATABASE = 'postgres://wtc:a-long-password@db.example.com:5432/wtc'
const WABA = '102290129340398'
const PHONE = '106540352242922'
const REDIRECT = 'https://app.example.com/whatsapp/callback'

interface Setting {
  /** What a reader replaces by values of their own. */
  values?: Record<string, () => string>
  env?: Record<string, string>
  ownModules?: boolean
  /** Uses the page of the document. */
  page?: (t: Test, session: Session, html: string) => Promise<void>
}

const settings: Record<string, (t: Test) => Promise<Setting>> = {
  'README.md': async () => ({}),
  'docs/security.md': async () => ({}),

  async 'docs/operations.md' (t) {
    const url = await createDatabase(t, { empty: true })
    return { ownModules: true, values: { [DATABASE]: () => url } }
  },

  async 'docs/TENANT_CONFIG_GUIDE.md' (t) {
    const graph = await startGraph()
    t.teardown(graph.close)
    const app = graph.state.addApp()
    graph.state.addWaba({ id: WABA, app_ids: [app.app_id], phones: [{ id: PHONE }, { id: '201' }, { id: '202' }] })
    const codes = (redirect: string | null = null) => graph.state.issueCode({ app_id: app.app_id, redirect_uri: redirect })
    const url = await createDatabase(t, { empty: true })
    return {
      env: { GRAPH_API_BASE_URL: graph.url },
      values: {
        [DATABASE]: () => url,
        'FB_APP_ID=670843887433847': () => `FB_APP_ID=${app.app_id}`,
        'FB_APP_SECRET=0123456789abcdef0123456789abcdef': () => `FB_APP_SECRET=${app.app_secret}`,
        'CODE-FROM-THE-SDK': () => codes(),
        'CODE-FROM-THE-REDIRECT': () => codes(REDIRECT)
      },
      page: async (t, session, html) => await connect(t, session, html, codes)
    }
  }
}

// The documents' commands run the build.
await t.test('the build is not older than the sources', async (t) => {
  const newest = Math.max(...readdirSync('src', { recursive: true }).map((name) => statSync(`src/${String(name)}`).mtimeMs))
  t.ok(statSync('dist/app.js').mtimeMs >= newest, 'run `npm run build` first')
})

for (const [path, text] of documents) {
  await t.test(`${path}: its commands do what it shows`, async (t) => {
    const { values = {}, env = {}, ownModules = false, page } = await settings[path]?.(t) ?? {}
    const session = await openSession(t, env, { ownModules })
    const replaced = { ...values, 'http://127.0.0.1:8002': () => session.origin }
    const own = (text: string) => Object.entries(replaced).reduce((text, [shown, mine]) => text.replaceAll(shown, mine), text)
    const blocks = blocksOf(text).map((block) => ({ ...block, text: runnable(block) })).filter((block) => !/^[:&\s]*$/.test(block.text))
    for (const [index, block] of blocks.entries()) {
      const where = `line ${block.line}`
      const shown = blocks[index + 1]
      if (block.language === 'sh') {
        const output = await session.run(own(block.text))
        check(t, where, output, shown, own)
        // What the service prints to be pasted is pasted.
        for (const line of output.stdout.match(/^curl .*$/gm) ?? []) check(t, line.slice(0, 60), await session.run(line))
      } else if (block.language === 'js') {
        writeFileSync(join(session.dir, 'example.js'), own(block.text))
        check(t, where, await session.run('node example.js'), shown, own)
      } else if (block.language === 'html') {
        await page?.(t, session, block.text)
      } else {
        t.match(block.language, /^(json|text)$/, `${where}: a block that is run, or shows what was`)
      }
    }
  })
}

/** The commands of a block as a session runs them: those that run elsewhere do nothing, and what a reader is told to do by hand is done. */
function runnable ({ language, text }: Block): string {
  return language === 'sh' ? ELSEWHERE.reduce((text, command) => text.replaceAll(command, ':'), text).replace(/^# Stop the service.*/, 'stop') : text
}

/** Holds an output to what the document shows after the command: its JSON, or its text. */
function check (t: Test, where: string, { stdout, statuses }: Output, shown?: Block, own = (text: string) => text): void {
  const output = plain(stdout.replace(/^\{"level".*\n/gm, ''))
  const expected = plain(own(shown?.text ?? ''))
  if (shown?.language === 'text') t.equal(output.trim(), expected.trim(), `${where}: its output`)
  if (shown?.language === 'json') t.strictSame(JSON.parse(output), JSON.parse(expected), `${where}: its JSON`)
  const refusal = /"status": (\d{3})/.exec(expected)?.[1]
  if (refusal === undefined) t.ok(statuses.every((status) => status < 400), `${where}: no request is refused (${statuses})`)
  else t.strictSame(statuses, [Number(refusal)], `${where}: its status`)
}

/** The text without what differs each time: times, ids, tokens. */
function plain (text: string): string {
  return text
    .replace(/\d{4}-\d\d-\d\dT[\d:.]+Z/g, 'TIME')
    .replace(/[\da-f]{8}(-[\da-f]{4}){3}-[\da-f]{12}/g, 'UUID')
    .replace(/"id": ?\d+/g, '"id":0')
    .replace(/eyJ[\w.-]*…?/g, 'TOKEN')
    .replace(/"\*{4}[^"]{4}"/g, '"MASKED"')
}

/** Walks through the sign-up page as a customer does, the two messages of Meta's in either order. */
async function connect (t: Test, { origin, run }: Session, html: string, newCode: () => string): Promise<void> {
  const signUp = (data: object) => JSON.stringify({ type: 'WA_EMBEDDED_SIGNUP', event: 'FINISH', version: 3, data })
  for (const [tenant, phone, codeFirst] of [['page-1', '201', true], ['page-2', '202', false]] as const) {
    const token = (await run(`node dist/cli/token.js --tenant ${tenant}`)).stdout.trim()
    const headers = { authorization: `Bearer ${token}` }
    const page = openPage(html, origin, token)
    page.click('connect')
    const [login] = page.logins
    t.match(login?.options, { config_id: String, response_type: 'code', override_default_response_type: true })
    const code = () => login?.answer({ status: 'connected', authResponse: { code: newCode() } })
    const account = () => page.post('https://www.facebook.com', signUp({ waba_id: WABA, phone_number_id: phone }))

    for (const stranger of ['https://evilfacebook.com', 'https://facebook.com.evil.example', 'http://www.facebook.com', 'null']) page.post(stranger, signUp({ waba_id: '1', phone_number_id: '666' }))
    page.post('https://www.facebook.com', 'not JSON')
    page.post('https://www.facebook.com', '{"type":"something else"}')
    if (codeFirst) code()
    else account()
    t.equal(page.requests(), 0, 'it waits for both')
    if (codeFirst) account()
    else code()
    t.equal(page.requests(), 1, 'it sends both at once')
    t.equal(await page.says('status'), 'Connected.')
    const config = await fetch(`${origin}/api/v1/tenant/config`, { headers })
    t.match(await config.json(), { tenant_id: tenant, waba_id: WABA, phone_number_id: phone, onboarding_completed: true })
    // A reader without Meta has no such tenants.
    await fetch(`${origin}/api/v1/tenant/config`, { method: 'DELETE', headers })
  }

  const page = openPage(html, origin, (await run('node dist/cli/token.js --tenant page-3')).stdout.trim())
  page.click('connect')
  page.logins[0]?.answer({ status: 'unknown', authResponse: null })
  t.match(await page.says('status'), 'not finished')
  page.post('https://www.facebook.com', JSON.stringify({ type: 'WA_EMBEDDED_SIGNUP', event: 'CANCEL', data: { current_step: 'PERMISSIONS' } }))
  t.match(await page.says('status'), 'not finished')
  page.post('https://www.facebook.com', JSON.stringify({ type: 'WA_EMBEDDED_SIGNUP', event: 'FINISH_ONLY_WABA', data: { waba_id: WABA } }))
  t.match(await page.says('status'), 'phone number')
  page.click('connect')
  page.logins[1]?.answer({ status: 'connected', authResponse: { code: 'not-a-code' } })
  page.post('https://www.facebook.com', signUp({ waba_id: WABA, phone_number_id: '201' }))
  t.match(await page.says('status'), new errors.MetaCodeInvalid().message)
}

await t.test('what cannot run here runs in CI', async (t) => {
  const ci = readFileSync('.ci/run', 'utf8')
  for (const command of ELSEWHERE) t.ok(ci.includes(command), command)
})

await t.test('every link leads somewhere', async (t) => {
  for (const [path, text] of documents) {
    for (const [, target = ''] of text.matchAll(/\]\(((?!https?:)[^)]+)\)/g)) {
      const [file = '', anchor] = target.split('#')
      const to = file === '' ? path : join(dirname(path), file)
      t.ok(existsSync(to), `${path} → ${target}`)
      if (anchor !== undefined) t.ok(anchorsOf(textOf(to)).includes(anchor), `${path} → ${target}`)
    }
  }
})

await t.test('the tables are those of the program', async (t) => {
  const guide = textOf('docs/TENANT_CONFIG_GUIDE.md')
  const readme = textOf('README.md')

  const { DATABASE_URL, ...given } = { ...baseEnv, DATABASE_URL: '', NODE_ENV: '', LOG_LEVEL: '', PORT: '' }
  const defaults = new Map<string, unknown>(Object.entries(await readEnv({ ...given, DATABASE_URL })))
  const secrets = ['JWT_SECRET', 'ENCRYPTION_KEYS']
  const expected = settingNames.map((name) => [`\`${name}\``, secrets.includes(name) || !defaults.has(name) ? '–' : `\`${String(defaults.get(name))}\``])
  t.strictSame(tableOf(readme, 'setting').map(([name, value]) => [name, value]), expected, 'settings')

  const { app } = await buildTestApp(t)
  const { paths }: { paths: Record<string, object> } = (await app.inject('/docs/json')).json()
  const routes = Object.entries(paths).flatMap(([url, methods]) => Object.keys(methods).map((method) => `${method.toUpperCase()} ${url}`))
  const listed = tableOf(readme, 'method').map(([method = '', url = '']) => `${method} ${url.replaceAll('`', '')}`)
  const documentation = ['GET /docs', 'GET /docs/json']
  t.strictSame(listed.toSorted(), [...routes, ...documentation].toSorted(), 'endpoints')
  for (const url of documentation) t.equal((await app.inject(url.slice(4))).statusCode, 200, url)

  const codes = Object.values(errors).map((ErrorClass) => new ErrorClass()).map(({ code, statusCode }) => [`\`${code}\``, String(statusCode)])
  t.strictSame(tableOf(guide, 'code').map(([code, status]) => [code, status]).toSorted(), codes.toSorted(), 'errors')

  const { scripts }: { scripts: Record<string, string> } = JSON.parse(readFileSync('package.json', 'utf8'))
  for (const [path, text] of documents) {
    for (const [command, name = ''] of text.matchAll(/npm run (?:-s )?([\w:]+)/g)) t.ok(name in scripts, `${path}: ${command}`)
  }
  const commands = tableOf(readme, 'command').map(([command = '']) => command.replaceAll('`', ''))
  const short = ['start', 'test']
  t.strictSame(commands.toSorted(), Object.keys(scripts).filter((name) => name !== 'prepare').map((name) => `npm ${short.includes(name) ? '' : 'run '}${name}`).toSorted(), 'commands')
})

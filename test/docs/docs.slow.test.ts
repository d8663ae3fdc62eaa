import { existsSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseEnv } from 'node:util'
import type { Test } from 'tap'
import t from '../run/tap.js'
import { blocksOf, documents, textOf, type Block } from './markdown.js'
import { openSession, type Output, type Session } from './session.js'
import { signUp } from './sign-up.js'
import { startGraph } from '../graph/server.js'
import { createDatabase, query } from '../helper.js'

// About forty processes, most of them npm and Node: slow on a busy machine.
t.setTimeout(300_000)

/** Commands that cannot run within a test; `.ci/run` runs them on a fresh clone. */
const CI_COMMANDS = ['npm ci', 'npm test', 'npm run demo']

const DATABASE = 'postgres://wtc:a-long-password@db.example.com:5432/wtc'
const WABA = '102290129340398'
const PHONES = [
  { id: '106540352242922', display_phone_number: '+1 631-555-5555' },
  { id: '106540352242923', display_phone_number: '+1 631-555-5556' }
]
const APP = { app_id: '670843887433847', app_secret: '0123456789abcdef0123456789abcdef' }
const REDIRECT = 'https://app.example.com/whatsapp/callback'

interface Setting {
  /** The placeholders that a reader replaces by their own values. */
  values?: Record<string, () => string>
  env?: Record<string, string>
  ownModules?: boolean
  /** The database for SQL statements. */
  database?: string
  /** Tests the HTML page of the document. */
  page?: (t: Test, session: Session, html: string) => Promise<void>
}

const settings: Record<string, (t: Test) => Promise<Setting>> = {
  'README.md': async () => ({}),
  'docs/security.md': async () => ({}),

  async 'docs/operations.md' (t) {
    const url = await createDatabase(t, { empty: true })
    return { ownModules: true, database: url, values: { [DATABASE]: () => url } }
  },

  async 'docs/TENANT_CONFIG_GUIDE.md' (t) {
    const graph = await startGraph()
    t.teardown(graph.close)
    const { app_id } = graph.state.addApp(APP)
    graph.state.addWaba({ id: WABA, app_ids: [app_id], phones: PHONES })
    const { id: waba } = graph.state.addWaba({
      app_ids: [app_id],
      phones: [{ id: '201' }, { id: '202' }, { id: '203', display_phone_number: '+1 631-555-0203' }]
    })
    graph.state.addWaba({ id: 'waba-1', app_ids: [app_id], phones: [{ id: 'phone-1', registered: true }] })
    graph.state.issueToken({ app_id, waba_ids: ['waba-1'] }, 'EAAG-not-a-real-token-1234')
    const codes = () => graph.state.issueCode({ app_id })
    const url = await createDatabase(t, { empty: true })
    return {
      env: { GRAPH_API_BASE_URL: graph.url },
      values: {
        [DATABASE]: () => url,
        'CODE-FROM-THE-SDK': codes,
        'CODE-FROM-THE-REDIRECT': () => graph.state.issueCode({ app_id, waba_ids: [WABA], redirect_uri: REDIRECT })
      },
      page: async (t, session, html) => await signUp(t, session, html, { waba, codes })
    }
  }
}

// The commands of the documents run the build.
await t.test('the build is not older than the sources', async (t) => {
  const newest = Math.max(
    ...readdirSync('src', { recursive: true }).map((name) => statSync(`src/${String(name)}`).mtimeMs)
  )
  t.ok(statSync('dist/app.js').mtimeMs >= newest, 'run `npm run build` first')
})

for (const [path, text] of documents) {
  await t.test(`${path}: its commands have the documented output`, async (t) => {
    const { values = {}, env = {}, ownModules = false, database, page } = await settings[path]?.(t) ?? {}
    const session = await openSession(t, env, { ownModules })
    const replaced = {
      ...values,
      '/opt/whatsapp-tenant-config': () => session.dir,
      '/usr/bin/node': () => process.execPath,
      'http://127.0.0.1:8002': () => session.origin
    }
    const own = (text: string) => Object.entries(replaced).reduce(
      (text, [shown, mine]) => text.replaceAll(shown, mine),
      text
    )
    const blocks = blocksOf(text).map((block) => ({ ...block, text: runnable(block) })).filter(
      (block) => !/^[:&\s]*$/.test(block.text)
    )
    for (const [index, block] of blocks.entries()) {
      const where = `line ${block.line}`
      const shown = blocks[index + 1]
      if (block.language === 'sh') {
        const output = await session.run(own(block.text))
        check(t, where, output, shown, own)
        // The service prints commands for pasting.
        for (const line of output.stdout.match(/^curl .*$/gm) ?? []) {
          check(t, line.slice(0, 60), await session.run(line))
        }
      } else if (block.language === 'js') {
        writeFileSync(join(session.dir, 'example.js'), own(block.text))
        check(t, where, await session.run('node example.js'), shown, own)
      } else if (block.language === 'python') {
        writeFileSync(join(session.dir, 'example.py'), own(block.text))
        check(t, where, await session.run('python3 example.py'), shown, own)
      } else if (block.language === 'sql') {
        await query(String(database), block.text)
      } else if (block.language === 'html') {
        await page?.(t, session, block.text)
      } else if (block.language === 'ini') {
        await startUnit(t, session, own(block.text))
      } else {
        t.match(block.language, /^(json|text|mermaid)$/, `${where}: the language of a block is known`)
      }
      const dotEnv = join(session.dir, '.env')
      if (existsSync(dotEnv)) t.equal(modeOf(dotEnv), 0o600, `${where}: only the owner can read .env`)
    }
  })
}

/** The commands of a block for the session. `:` replaces the commands of CI, and a command each manual instruction. */
function runnable ({ language, text }: Block): string {
  return language === 'sh'
    ? CI_COMMANDS.reduce((text, command) => text.replaceAll(command, ':'), text)
      .replace(/^# Stop the service.*/, 'stop')
    : text
}

/** Compares an output with the block after the command: its JSON, or its text. */
function check (
  t: Test,
  where: string,
  { stdout, statuses }: Output,
  shown?: Block,
  own = (text: string) => text
): void {
  const output = plain(stdout.replace(/^\{"level".*\n/gm, ''))
  const expected = plain(own(shown?.text ?? ''))
  if (shown?.language === 'text') t.equal(output.trim(), expected.trim(), `${where}: its output`)
  if (shown?.language === 'json') t.strictSame(JSON.parse(output), JSON.parse(expected), `${where}: its JSON`)
  const refusal = /"status": (\d{3})/.exec(expected)?.[1]
  if (refusal === undefined) {
    t.ok(statuses.every((status) => status < 400), `${where}: no request is refused (${statuses})`)
  } else t.strictSame(statuses, [Number(refusal)], `${where}: its status`)
}

/** The text without the parts that differ each time: times, ids, tokens. */
function plain (text: string): string {
  return text
    .replace(/\d{4}-\d\d-\d\dT[\d:.]+Z/g, 'TIME')
    .replace(/[\da-f]{8}(-[\da-f]{4}){3}-[\da-f]{12}/g, 'UUID')
    .replace(/"id": ?\d+/g, '"id":0')
    // The cursor of an audit record has its time.
    .replace(/"next_cursor": ?"[\w-]{40,}"/g, '"next_cursor":"CURSOR"')
    .replace(/"id": ?"[\da-f]{20}"/g, '"id":"KEY_ID"')
    .replace(/wtc_[\w-]+/g, 'KEY')
    .replace(/eyJ[\w.-]*…?/g, 'TOKEN')
    .replace(/"\*{4}[^"]{4}"/g, '"MASKED"')
    .replace(/(state=|"state": ?")[\w-]+…?/g, '$1STATE')
    // The scheduler may or may not have checked the tokens by then.
    .replace(/"token_status": ?\{.*?\}/s, (counts) => counts.replace(/\d+/g, '0'))
}

function modeOf (path: string): number {
  return statSync(path).mode & 0o777
}

/** Starts the service with a systemd unit, and then again without its `.env`. */
async function startUnit (t: Test, { run }: Session, unit: string): Promise<void> {
  const { WorkingDirectory, Environment, ExecStart } = parseEnv(unit)
  const start = `env ${Environment} ${ExecStart}`
  await run(`stop\n(cd / && cd ${WorkingDirectory} && start='${start}' && npm start && stop)`)
  const { stdout } = await run(`mv .env away\n! timeout 20 ${start} 2>&1\nmv away .env`)
  t.match(stdout, 'DATABASE_URL is missing', 'the service refuses to start without its settings')
}

await t.test('the documented key change keeps the old keys, with or without quotes', async (t) => {
  const { dir, run } = await openSession(t, {})
  const changes = blocksOf(textOf('docs/TENANT_CONFIG_GUIDE.md')).map(({ text }) => text).filter(
    (text) => text.includes('NEW_KEY=')
  )
  const [own = '', local = ''] = changes
  const changed = (key: string) => new RegExp(`^k2:[^,]{44},${key}$`)

  const dotEnv = join(dir, '.env')
  for (const quote of ['', '"', "'"]) {
    writeFileSync(dotEnv, `PORT=1\nENCRYPTION_KEYS=${quote}k1:abc=${quote}\nHOST=::1\n`, { mode: 0o600 })
    await run(own)
    const { ENCRYPTION_KEYS, ...others } = parseEnv(readFileSync(dotEnv, 'utf8'))
    t.match(ENCRYPTION_KEYS, changed('k1:abc='), `quoted by ${quote}`)
    t.strictSame(others, { PORT: '1', HOST: '::1' })
  }
  rmSync(dotEnv)

  await run('npm start')
  const keyFile = join(dir, '.data/encryption-keys')
  const before = readFileSync(keyFile, 'utf8')
  await run(`TOKEN=$(npm run -s token -- --tenant acme); BASE=http://127.0.0.1:$PORT/api/v1/tenant/config
    curl -sS -X POST $BASE -H "authorization: Bearer $TOKEN" -H 'content-type: application/json' \\
      -d '{"access_token":"sealed-with-the-old-key"}'`)
  await run(local)
  const after = readFileSync(keyFile, 'utf8')
  t.match(after.trim(), changed(before.trim().replaceAll('+', '\\+')))
  t.equal(modeOf(keyFile), 0o600)
  t.match(
    (await run('npm start; curl -sS $BASE/full -H "authorization: Bearer $TOKEN"')).stdout,
    'sealed-with-the-old-key'
  )
})

await t.test('every command that cannot run here runs in CI', async (t) => {
  const ci = readFileSync('.ci/run', 'utf8')
  for (const command of CI_COMMANDS) t.ok(ci.includes(command), command)
})

import { readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from '../../run/tap.js'
import { canary, canaryKey, scanner } from '../../secrets/canaries.js'
import { refused, run } from '../run.js'
import { check, startPatient, statuses } from './patient.js'

const doctor = 'src/cli/doctor.ts'

await t.test('the command prints a line for each check, and their numbers', async (t) => {
  const { env } = await startPatient(t, { webhook_fields: [] })
  const { code, stdout, stderr } = await run(t, [doctor], { ...env, FB_LOGIN_CONFIG_ID: '' })
  t.same([code, stderr], [1, ''])
  t.same(scanner({})('output', stdout), [])
  const lines = stdout.trimEnd().split('\n')
  t.same(lines.slice(0, -1).map((line) => line.split(/\s+/, 2).reverse()), Object.entries(
    statuses({ webhook: 'failed', login_config: 'warning' })
  ))
  t.match(stdout, /^failed {3}webhook +The webhook has no field .* To mend it: App Dashboard > WhatsApp > /m)
  t.match(stdout, /^ok {7}api_version +Meta serves v26\.0\.$/m)
  t.equal(lines.at(-1), '10 ok, 1 with a warning, 1 failed, 0 skipped.')
})

await t.test('an unknown argument is refused with the usage', async (t) => {
  for (const args of [['--jsno'], ['--json=yes'], ['everything']]) {
    refused(t, await run(t, [doctor, ...args]), /npm run -s doctor \[-- --json\]/)
  }
})

await t.test('secrets come from files, and are not printed', async (t) => {
  const { env, check } = await startPatient(t)
  const dir = t.testdir({ secret: String(env['FB_APP_SECRET']), url: String(env['DATABASE_URL']) })
  const fromFiles = {
    FB_APP_SECRET: '',
    FB_APP_SECRET_FILE: join(dir, 'secret'),
    DATABASE_URL: '',
    DATABASE_URL_FILE: join(dir, 'url')
  }
  t.match(await check(fromFiles), { code: 0, statuses: statuses() })
  t.match(await check({ ...fromFiles, JWT_SECRET: '' }), { code: 1, texts: { settings: /JWT_SECRET is missing/ } })
  t.match(await check({ ...fromFiles, FB_APP_SECRET_FILE: join(dir, canary('gone')) }), {
    code: 1,
    texts: { settings: /FB_APP_SECRET_FILE is not usable: the file cannot be read \(ENOENT\)/ }
  })
})

await t.test('the settings that local mode generates are read from .data, and not generated', async (t) => {
  const { env } = await startPatient(t)
  const local = { ...env, DATABASE_URL: '', JWT_SECRET: '', ENCRYPTION_KEYS: '' }
  const dir = t.testdir({ own: { '.data': { 'jwt-secret': canary('jwt') } }, provider: {} })
  const cwd = join(dir, 'own')
  const expected = statuses({ database: 'skipped', keys: 'skipped' })
  t.match(await check(t, local, { cwd }), {
    code: 0,
    statuses: expected,
    texts: { settings: 'All settings can be used. The first start generates ENCRYPTION_KEYS. ' }
  })
  t.same(readdirSync(join(cwd, '.data')), ['jwt-secret'])
  t.match(await check(t, { ...local, JWT_JWKS_URL: 'https://idp.example/jwks' }, { cwd: join(dir, 'provider') }), {
    code: 0,
    texts: { settings: 'All settings can be used. The first start generates ENCRYPTION_KEYS. ' }
  })
  writeFileSync(join(cwd, '.data', 'encryption-keys'), `local:${canaryKey()}`)
  t.match(await check(t, local, { cwd }), {
    code: 0,
    statuses: expected,
    texts: { settings: 'All settings can be used. ' }
  })
})

await t.test('a .env that cannot be read, and a misspelled name in it, are reported', async (t) => {
  const { env } = await startPatient(t)
  const dir = t.testdir({ '.env': `GRAPH_API_VERSON=${canary('value')}\n` })
  const inDir = { cwd: dir }
  t.match(await check(t, env, inDir), {
    code: 0,
    statuses: statuses({ settings: 'warning' }),
    texts: { settings: /line 1: GRAPH_API_VERSON is not a setting .* GRAPH_API_VERSION/ }
  })
  t.match(await check(t, env, { cwd: t.testdir({ '.env': canary('no assignment') }) }), {
    code: 1,
    texts: { settings: /\.env, line 1: / }
  })
})

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { text } from 'node:stream/consumers'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from '../run/tap.js'
import { baseEnv } from '../helper.js'
import { auditService, entry } from '../audit/audit-service.js'
import { dataDir, started } from '../fixtures/embedded.js'
import { modulePath } from '../run/paths.js'
import { refused, run } from './run.js'

t.setTimeout(180_000)

const head = ['src/cli/audit-head.ts']
const verify = ['src/cli/audit-verify.ts']

const service = await auditService(t)
const { app, databaseUrl: DATABASE_URL } = service
const env = { DATABASE_URL }
for (const id of ['acme', 'globex', '', 'müller & söhne 😀']) {
  for (let i = 0; i < 3; i++) await app.audit.record(entry(id))
}

await t.test('audit:head prints the head of each chain, or of one', async (t) => {
  const all = await run(t, head, env)
  t.match(all, { code: 0, stderr: '' })
  const heads = all.stdout.trimEnd().split('\n').map((line) => JSON.parse(line))
  t.strictSame(heads.map(({ tenant_id: id, seq }) => `${id} ${seq}`).sort(), [
    ' 3', 'acme 3', 'globex 3', 'müller & söhne 😀 3'
  ])
  const one = await run(t, [...head, '--tenant', 'acme'], env)
  t.strictSame(JSON.parse(one.stdout), heads.find(({ tenant_id: id }) => id === 'acme'))
  t.match(await run(t, [...head, '--tenant', 'nobody'], env), { code: 0, stdout: '' })
  refused(t, await run(t, [...head, '--nonsense'], env), /Unknown option/)
})

await t.test('audit:verify names the first broken link of each chain, and fails', async (t) => {
  t.match(await run(t, verify, env), { code: 0, stdout: '12 records verified, broken chains: 0.\n', stderr: '' })
  const one = await run(t, [...verify, '--tenant', 'acme'], env)
  t.match(one, { code: 0, stdout: '3 records verified, broken chains: 0.\n' })
  const noted = join(t.testdir({}), 'heads')
  writeFileSync(noted, `${(await run(t, head, env)).stdout}\n`)
  t.match(await run(t, [...verify, '--head', noted], env), { code: 0 })

  await service.tamper("update audit_log set actor = 'x' where tenant_id = 'acme' and seq = 2",
    "delete from audit_log where tenant_id in ('globex', '') and seq = 3",
    "insert into audit_log select 'a' || chr(7) || 'b', 2, at, actor, role, action, outcome, code, fields, count, " +
      "address, request_id, hmac from audit_log where tenant_id = 'acme' and seq = 1")
  const found = await run(t, [...verify, '--head', noted], env)
  t.equal(found.code, 1)
  t.strictSame(found.stdout.trimEnd().split('\n').sort(), [
    '11 records verified, broken chains: 4.',
    'acme: record 2 is tampered: its content was changed; the next one still follows its HMAC.',
    'a…b: record 1 is missing: the next one is 2.',
    'globex: record 3 is truncated: the chain ends before it; the noted head is 3.',
    'the chain without a tenant: record 3 is truncated: the chain ends before it; the noted head is 3.'
  ])
  t.match(await run(t, [...verify, '--head', noted, '--tenant', 'globex'], env), { code: 1, stdout: /chains: 1\.\n$/ })
  t.match(await run(t, [...verify, '--tenant', 'globex'], env), { code: 0 })
})

await t.test('audit:verify refuses a file that is no list of heads, and keys that do not fit', async (t) => {
  const dir = t.testdir({ words: 'not a head\n', part: '{"tenant_id":"acme","seq":1}' })
  for (const file of ['words', 'part']) {
    const fault = /^Line 1 of the file is not what audit:head prints/
    refused(t, await run(t, [...verify, '--head', join(dir, file)], env), fault)
  }
  refused(t, await run(t, [...verify, '--head', join(dir, 'nothing')], env), /ENOENT/)
  const other = { ...env, ENCRYPTION_KEYS: `t1:${Buffer.alloc(32).toString('base64')}` }
  refused(t, await run(t, verify, other), /^The key of the audit log does not open/)
})

await t.test('on a terminal audit:verify shows its progress', async (t) => {
  const command = [process.execPath, ...process.execArgv, modulePath('src/cli/audit-verify.ts')].join(' ')
  const settings = { ...process.env, ...baseEnv, ...env, PORT: '0' }
  const child = spawn('script', ['-qec', command, '/dev/null'], { env: settings })
  const [shown] = await Promise.all([text(child.stdout), once(child, 'close')])
  t.match(shown, /\d+ records\r/)
  t.match(shown, /records verified, broken chains: \d/)
})

await t.test('the commands use an embedded database that runs, and start one that does not', async (t) => {
  const dir = dataDir(t)
  const settings = { DATA_DIR: dir, DATABASE_URL: '' }
  const database = await started(t, dir)
  const embedded = await auditService(t, { DATABASE_URL: database.url, MIGRATE_ON_START: true })
  await embedded.app.audit.record(entry('acme'))
  t.match(await run(t, verify, settings), { code: 0, stdout: '1 records verified, broken chains: 0.\n' })
  await embedded.app.close()
  await database.stop()
  t.match(await run(t, head, settings), { code: 0, stdout: /^\{"tenant_id":"acme","seq":1,"hmac":"[\w-]{43}"\}\n$/ })
})

import t from '../run/tap.js'
import { serverProcess } from '../fixtures/server-process.js'
import { startGraph } from '../graph/server.js'
import { createDatabase } from '../helper.js'
import { start } from '../cli/run.js'
import { createRequests } from '../upgrade/requests.js'
import { runTrial } from './trial.js'

// Seven processes under load: slow on a busy machine.
t.setTimeout(300_000)

await t.test('keys turn under load through three kills, and no value is lost, unreadable or left', async (t) => {
  const url = await createDatabase(t)
  const meta = await startGraph()
  t.teardown(async () => { await meta.close() })
  const requests = createRequests(url, meta)
  const settings = { ...requests.settings, LOG_LEVEL: 'info', OAUTH_STATE: 'optional' }
  const { values, requests: sent, faults } = await runTrial({
    url,
    tenants: 5000,
    meta,
    requests,
    startService: async (keyRing) => {
      const { origin, end } = await serverProcess(t, { ...settings, ENCRYPTION_KEYS: keyRing })
      return { origin, stop: async () => await end('SIGTERM') }
    },
    startRotation: (keyRing) =>
      start(t, ['src/cli/keys/rotate.ts'], { DATABASE_URL: url, ENCRYPTION_KEYS: keyRing }).child,
    print: (line) => { t.comment(line) }
  })
  t.same(faults, [])
  t.equal(values, 5000 * 3 + (2 + 3) * 500)
  t.ok(sent > 300, `${sent} requests`)
})

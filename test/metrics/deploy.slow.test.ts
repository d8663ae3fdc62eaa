import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import t from '../run/tap.js'
import { anchorsOf, tableOf, textOf } from '../docs/markdown.js'
import { buildTestApp } from '../helper.js'
import { metricsUrl, scrape } from './scrape.js'

const RULES = 'deploy/prometheus/alerts.yml'
const DASHBOARD = 'deploy/grafana/whatsapp-tenant-config.json'

const { log } = await buildTestApp(t, { METRICS_PORT: 0 })
const { types } = await scrape(metricsUrl(log()))
const samples = [...types].flatMap(([name, type]) =>
  type === 'histogram' ? [`${name}_bucket`, `${name}_sum`, `${name}_count`] : [name])
const namesIn = (text: string) => [...new Set(text.match(/\bwtc_\w+/g))]

for (const file of [RULES, 'deploy/prometheus/alerts.test.yml', DASHBOARD]) {
  await t.test(`every metric that ${file} names exists`, async (t) => {
    const names = namesIn(readFileSync(file, 'utf8'))
    t.ok(names.length > 10)
    t.strictSame(names.filter((name) => !samples.includes(name)), [])
  })
}

await t.test('the table of operations.md lists the metrics, and no others', async (t) => {
  const listed = tableOf(textOf('docs/operations.md'), 'metric').map(([name = '', type]) =>
    [name.replaceAll('`', '').replace(/\{.*\}$/, ''), type])
  t.strictSame(listed.toSorted(), [...types].toSorted())
})

await t.test('every alert leads to a section of the operations guide', async (t) => {
  const rules = readFileSync(RULES, 'utf8')
  const count = (pattern: RegExp) => rules.match(pattern)?.length
  const anchors = [...rules.matchAll(/runbook_url: docs\/operations\.md#(\S+)/g)].map(([, anchor = '']) => anchor)
  const known = anchorsOf(textOf('docs/operations.md'))
  t.strictSame(anchors.filter((anchor) => !known.includes(anchor)), [])
  const alerts = count(/- alert: /g)
  t.ok(Number(alerts) >= 12)
  t.strictSame([anchors.length, count(/ summary: /g), count(/ description: /g)], [alerts, alerts, alerts])
})

await t.test('the dashboard imports with any data source', async (t) => {
  interface Panel { id: number, type: string, title: string, datasource?: object, targets?: { expr: string }[] }
  const dashboard: {
    uid: string, panels: Panel[], templating: { list: { name: string, type: string }[] }
  } = JSON.parse(readFileSync(DASHBOARD, 'utf8'))
  t.match(dashboard.templating.list, [{ name: 'datasource', type: 'datasource' }, { name: 'instance', type: 'query' }])
  t.equal(new Set(dashboard.panels.map(({ id }) => id)).size, dashboard.panels.length)
  const charts = dashboard.panels.filter(({ type }) => type !== 'row')
  for (const { title, datasource, targets = [] } of charts) {
    t.strictSame(datasource, { type: 'prometheus', uid: `$${'{datasource}'}` }, title)
    t.ok(targets.length > 0 && targets.every(({ expr }) => expr.includes('wtc_')), title)
  }
})

const promtool = spawnSync('promtool', ['--version'])
const skip = promtool.error === undefined ? false : 'promtool is not installed (Debian: prometheus)'
for (const command of [
  `check rules ${RULES}`,
  'test rules deploy/prometheus/alerts.test.yml',
  'check config deploy/prometheus/prometheus.yml'
]) {
  await t.test(`promtool ${command} succeeds`, { skip }, async (t) => {
    const { status, stdout, stderr } = spawnSync('promtool', command.split(' '), { encoding: 'utf8' })
    t.equal(status, 0, stdout + stderr)
  })
}

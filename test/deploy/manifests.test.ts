import { existsSync, readdirSync, readFileSync } from 'node:fs'
import type { Test } from 'tap'
import t from '../run/tap.js'
import { secretNames, settingNames } from '../../src/settings/env.js'
import { settings } from '../../src/settings/schema.js'
import { blocksOf } from '../docs/markdown.js'
import { readCompose, readManifests, serviceOf, type Container, type Pod } from './manifests.js'

const compose = readCompose()
const { deployment, migration, service, budget, secret } = readManifests()
const readme = readFileSync('deploy/README.md', 'utf8')
const dockerfile = readFileSync('deploy/Dockerfile', 'utf8')
const port = settings.PORT.default
const names = [...settingNames, ...secretNames.map((name) => `${name}_FILE`)]

/** The seconds for which the service closes, at most, with this `SHUTDOWN_DELAY_MS`. */
const closeSeconds = (delayMs: string | undefined) =>
  (Number(delayMs) + settings.GRAPH_TIMEOUT_MS.default + 40_000) / 1000

/** Asserts that a command of the image is a program of the build. */
function assertProgram (t: Test, [node, program = '']: string[]): void {
  t.equal(node, 'node')
  t.ok(existsSync(program.replace(/^dist\/(.*)\.js$/, 'src/$1.ts')), program)
}

await t.test('the Dockerfile copies what exists, and names the programs and the port of the service', async (t) => {
  for (const [, list = ''] of dockerfile.matchAll(/^COPY (?!--from)(.*) \S+$/gm)) {
    for (const path of list.split(' ')) t.ok(existsSync(path), path)
  }
  const ignored = readFileSync('.dockerignore', 'utf8')
  for (const [, path = ''] of ignored.matchAll(/^!(.*)$/gm)) t.ok(existsSync(path), path)
  const [, command = ''] = /^CMD (.*)$/m.exec(dockerfile) ?? []
  assertProgram(t, JSON.parse(command))
  t.match(dockerfile, `EXPOSE ${port}\n`)
})

await t.test('compose.yaml names settings, secrets, networks, volumes and files that exist', async (t) => {
  const created = blocksOf(readme).find(({ language }) => language === 'sh')?.text ?? ''
  for (const [name, { file }] of Object.entries(compose.secrets)) {
    t.equal(file, `./secrets/${name}`)
    t.match(created, ` > ${name}\n`)
  }
  for (const [name, service] of Object.entries(compose.services)) {
    const { secrets = [], networks, depends_on: on = {}, volumes = [] } = service
    t.same(secrets.filter((secret) => !(secret in compose.secrets)), [], `${name}: secrets`)
    t.same(networks.filter((network) => !(network in compose.networks)), [], `${name}: networks`)
    t.same(Object.keys(on).filter((other) => !(other in compose.services)), [], `${name}: depends on`)
    for (const source of volumes.map((volume) => volume.split(':')[0] ?? '')) {
      t.ok(source.startsWith('.') ? existsSync(`deploy/${source}`) : source in compose.volumes, `${name}: ${source}`)
    }
  }
  for (const name of ['wtc-1', 'wtc-2', 'migrate']) {
    const { environment = {}, secrets = [], build, command = ['node', 'dist/server.js'] } = serviceOf(compose, name)
    for (const [setting, value] of Object.entries(environment)) {
      t.ok(names.includes(setting), `${name}: ${setting}`)
      t.ok(!setting.endsWith('_FILE') || secrets.includes(value.replace('/run/secrets/', '')), `${name}: ${value}`)
    }
    t.ok(existsSync(String(build?.dockerfile)))
    assertProgram(t, command)
  }
})

await t.test('in compose.yaml all services are hardened, and the instances wait for what they need', async (t) => {
  for (const [name, { read_only: isReadOnly, cap_drop: dropped, security_opt: options }] of
    Object.entries(compose.services)) {
    t.same([isReadOnly, dropped, options], [true, ['ALL'], ['no-new-privileges:true']], name)
  }
  for (const name of ['wtc-1', 'wtc-2']) {
    const { environment, stop_grace_period: grace = '', depends_on: on } = serviceOf(compose, name)
    t.ok(parseInt(grace) >= closeSeconds(environment?.['SHUTDOWN_DELAY_MS']), `${name}: ${grace}`)
    t.match(on, {
      migrate: { condition: 'service_completed_successfully' }, pgbouncer: { condition: 'service_healthy' }
    })
  }
  const caddyfile = readFileSync('deploy/Caddyfile', 'utf8')
  const [, upstreams = ''] = /\{\$UPSTREAMS:(.*?)\}/.exec(caddyfile) ?? []
  t.strictSame(upstreams.split(' '), [`wtc-1:${port}`, `wtc-2:${port}`])
  const [, path = ''] = /health_uri (.*)/.exec(caddyfile) ?? []
  t.equal(path, '/health/ready')
})

/** Asserts that a pod runs unprivileged, with settings and secrets that exist. */
function assertPod (t: Test, { spec }: Pod): Container {
  const [container] = spec.containers
  const [mount] = container.volumeMounts
  const volume = spec.volumes.find(({ name }) => name === mount?.name)
  t.equal(volume?.secret.secretName, secret.metadata.name)
  for (const { name, value } of container.env) {
    t.ok(names.includes(name), name)
    t.equal(typeof value, 'string', `${name}: Kubernetes takes texts only`)
    if (!name.endsWith('_FILE')) continue
    t.ok(value.replace(`${mount?.mountPath}/`, '') in secret.stringData, value)
  }
  const [, user = ''] = /^USER (\d+):\d+$/m.exec(dockerfile) ?? []
  t.match(spec.securityContext, { runAsNonRoot: true, runAsUser: Number(user) })
  t.strictSame(container.securityContext, {
    allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: { drop: ['ALL'] }
  })
  t.match(container.resources, { requests: { cpu: /^\d+m$/, memory: /^\d+Mi$/ }, limits: { memory: /i$/ } })
  return container
}

await t.test('the Deployment has two replicas, and probes of paths and ports that exist', async (t) => {
  const { replicas, selector, template } = deployment.spec
  t.ok(replicas >= 2)
  const container = assertPod(t, template)
  const { ports = [], env, startupProbe, livenessProbe, readinessProbe } = container
  const valueOf = (name: string) => env.find((setting) => setting.name === name)?.value
  t.strictSame(ports, [
    { name: 'http', containerPort: port }, { name: 'metrics', containerPort: Number(valueOf('METRICS_PORT')) }
  ])
  const probes = [startupProbe, livenessProbe, readinessProbe].map((probe) => probe?.httpGet)
  t.strictSame(probes, ['live', 'live', 'ready'].map((name) => ({ path: `/health/${name}`, port: 'http' })))
  const { paths }: { paths: object } = JSON.parse(readFileSync('docs/openapi.json', 'utf8'))
  for (const probe of probes) t.ok(String(probe?.path) in paths)
  t.ok(template.spec.terminationGracePeriodSeconds >= closeSeconds(valueOf('SHUTDOWN_DELAY_MS')))

  const { labels } = template.metadata
  const selectors = [
    selector, budget.spec.selector,
    ...(template.spec.topologySpreadConstraints ?? []).map(({ labelSelector }) => labelSelector)
  ]
  t.strictSame(selectors, Array(4).fill({ matchLabels: labels }))
  t.strictSame(service.spec.selector, labels)
  t.same(service.spec.ports.map(({ targetPort }) => targetPort), ['http'])
  t.ok(budget.spec.minAvailable < replicas, 'a node can be emptied')
})

await t.test('the migration Job runs the image of the Deployment, and no Service leads to it', async (t) => {
  const { image, command = [] } = assertPod(t, migration.spec.template)
  assertProgram(t, command)
  t.equal(image, deployment.spec.template.spec.containers[0].image)
  t.match(readme, image)
  t.notSame(migration.spec.template.metadata.labels, service.spec.selector)
})

await t.test('the Secret holds no values, and deploy/README.md names each file of deploy/kubernetes', async (t) => {
  t.same(Object.values(secret.stringData).filter((value) => value !== ''), [])
  for (const key of Object.keys(secret.stringData)) t.match(readme, `--from-file=deploy/secrets/${key}`)
  for (const name of readdirSync('deploy/kubernetes')) {
    t.ok(name === 'secret.example.yaml' || readme.includes(`-f deploy/kubernetes/${name}`), name)
  }
  const kinds = [deployment, migration, service, budget, secret].map(({ kind }) => kind)
  t.strictSame(kinds, ['Deployment', 'Job', 'Service', 'PodDisruptionBudget', 'Secret'])
})

await t.test('every link of deploy/README.md leads to a file', async (t) => {
  const targets = [...readme.matchAll(/\]\(([^)#]+)/g)].map(([, target = '']) => target)
  t.ok(targets.length > 0)
  for (const target of targets) t.ok(existsSync(`deploy/${target}`), target)
})

import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t from '../run/tap.js'
import { refused, run, start } from '../cli/run.js'
import { modulePath } from '../run/paths.js'
import { faultNames } from './control/fault-json.js'
import { routes } from './faults.js'

const main = 'test/graph/main.ts'
// npm run graph does the same; the types are checked elsewhere.
const env = { TS_NODE_TRANSPILE_ONLY: '1' }
const readme = await readFile('test/graph/README.md', 'utf8')

/** The value after a name in the printed text. */
const valueOf = (text: string, name: string) => new RegExp(`${name}[= ](\\S+)`).exec(text)?.[1] ?? ''

await t.test('npm run graph serves the stand-in until Ctrl-C', async t => {
  const child = spawn('npm', [
    'run', '-s', 'graph', '--', '--port', '0'
  ], { detached: true, stdio: ['ignore', 'pipe', 'inherit'] })
  const ended = once(child, 'exit')
  const interrupt = () => process.kill(-(child.pid ?? NaN), 'SIGINT')
  let out = ''
  child.stdout.setEncoding('utf8')
  while (!out.includes('The next one')) out += String((await once(child.stdout, 'data'))[0])
  const url = valueOf(out, 'GRAPH_API_BASE_URL')
  t.match(url, /^http:\/\/127\.0\.0\.1:\d+$/)
  const params = {
    client_id: valueOf(out, 'FB_APP_ID'),
    client_secret: valueOf(out, 'FB_APP_SECRET'),
    code: valueOf(out, '  code')
  }
  const response = await fetch(`${url}/v26.0/oauth/access_token?${new URLSearchParams(params)}`)
  t.match(await response.json(), { access_token: /^EAA/ })
  t.match(out, 'waba_id 102290129340398, phone_number_id 106540352242922 or 106540352242923')
  t.match(await (await fetch(valueOf(out, '-X POST'), { method: 'POST' })).json(), { code: /^AQ/ })
  interrupt()
  await ended
  await t.rejects(fetch(url))
})

await t.test('each command of the README works unchanged', async t => {
  const webhooks: Array<string | undefined> = []
  const receiver = createServer((req, res) => {
    webhooks.push(req.url)
    res.end()
  }).listen(0, '127.0.0.1')
  await once(receiver, 'listening')
  t.teardown(() => receiver.close())
  const address = receiver.address()
  const port = address !== null && typeof address === 'object' ? address.port : 0

  const { child, ended, printed } = start(t, [main, '--port', '0', '--seed', '-'], env)
  child.stdin.end((await readFile('test/graph/seed.json', 'utf8')).replace(':8002/', `:${port}/`))
  const [head] = await Promise.all([once(child.stdout, 'data'), printed('The next one')])
  const url = valueOf(String(head), 'GRAPH_API_BASE_URL')
  const blocks = [...readme.matchAll(/^```sh\n(curl.*?)^```$/gms)].map(([, block = '']) => block)
  const commands = blocks.flatMap(block => block.split(/^(?=curl )/m))
  t.ok(commands.length >= 15)
  for (const command of commands) {
    const { stdout } = await promisify(execFile)('bash', [
      '-c',
      command.replace('http://127.0.0.1:8003', url).replace('curl', 'curl -sf')
    ])
    t.type(JSON.parse(stdout), Object, command)
  }
  t.same(webhooks, ['/api/v1/tenant/onboard/account-update', '/api/v1/tenant/onboard/account-update'])
  child.kill('SIGTERM')
  t.match(await ended, { code: 143, stderr: '' })
})

await t.test('the README names each fault and each route', async t => {
  const named = [
    ...readme.matchAll(/^\| (`.*?) \|/gm)
  ].flatMap(([, names = '']) => [...names.matchAll(/`(\w+)`/g)].map(([, name]) => name))
  t.strictSame(named.filter(name => name !== 'fault').sort(), faultNames.toSorted())
  const listed = /The routes: ([^.]*)\./.exec(readme)?.[1] ?? ''
  t.strictSame(
    [...listed.replace(/\([^)]*\)/g, '').matchAll(/`(\w+)`/g)].map(([, name]) => name).sort(),
    routes.toSorted()
  )
})

await t.test('an invalid command line or seed is answered with an error', async t => {
  const dir = t.testdir({ 'wrong.json': '{"apps": [{"app_id": 1}]}' })
  const usage = /npm run graph -- \[--seed <file\.json>\] \[--port <number>\]/
  for (const [args, message] of [
    [['--sed', 'x'], usage],
    [['--port', '70000'], usage],
    [['--seed', join(dir, 'none.json')], /^The seed .*none\.json does not do\. ENOENT/],
    [['--seed', join(dir, 'wrong.json')], /wrong\.json does not do\. \/apps\/0\/app_id: Expected string/]
  ] as const) refused(t, await run(t, [main, '--port', '0', ...args], env), message)

  const busy = createServer().listen(0, '127.0.0.1')
  await once(busy, 'listening')
  t.teardown(() => busy.close())
  const address = busy.address()
  const port = address !== null && typeof address === 'object' ? address.port : 0
  refused(t, await run(t, [main, '--port', String(port)], env), /EADDRINUSE/)
})

await t.test('the stand-in ends when the process that started it disconnects', async t => {
  const child = spawn(
    process.execPath,
    [...process.execArgv, modulePath(main), '--port', '0'],
    { env: { ...process.env, ...env }, stdio: ['ignore', 'ignore', 'inherit', 'ipc'] }
  )
  t.teardown(() => { child.kill('SIGKILL') })
  const [{ url }] = await once(child, 'message')
  t.equal((await fetch(`${url}/_control/state`)).status, 200)
  child.disconnect()
  t.strictSame(await once(child, 'exit'), [0, null])
})

import { existsSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import t from '../run/tap.js'
import * as errors from '../../src/errors.js'
import { readEnv, settingNames } from '../../src/settings/env.js'
import { anchorsOf, documents, tableOf, textOf } from './markdown.js'
import { baseEnv, buildTestApp, withoutLimits } from '../helper.js'

await t.test('every link has an existing target', async (t) => {
  for (const [path, text] of documents) {
    for (const [, target = ''] of text.matchAll(/\]\(((?!https?:)[^)]+)\)/g)) {
      const [file = '', anchor] = target.split('#')
      const to = file === '' ? path : join(dirname(path), file)
      t.ok(existsSync(to), `${path} → ${target}`)
      if (anchor !== undefined) t.ok(anchorsOf(textOf(to)).includes(anchor), `${path} → ${target}`)
    }
  }
})

await t.test('the tables of the documents match the program', async (t) => {
  const guide = textOf('docs/TENANT_CONFIG_GUIDE.md')
  const readme = textOf('README.md')

  const { DATABASE_URL, ...given } = {
    ...baseEnv,
    ...Object.fromEntries(Object.keys(withoutLimits).map((name) => [name, ''])),
    DATABASE_START_TIMEOUT_MS: '',
    DATABASE_URL: '',
    NODE_ENV: '',
    LOG_LEVEL: '',
    PORT: '',
    GRAPH_API_BASE_URL: ''
  }
  const defaults = new Map<string, unknown>(Object.entries(await readEnv({ ...given, DATABASE_URL })))
  const secrets = ['JWT_SECRET', 'ENCRYPTION_KEYS']
  const expected = settingNames.map((name) => [
    `\`${name}\``,
    secrets.includes(name) || !defaults.has(name) ? '–' : `\`${String(defaults.get(name))}\``
  ])
  t.strictSame(tableOf(readme, 'setting').map(([name, value]) => [name, value]), expected, 'settings')

  const { app } = await buildTestApp(t)
  const { paths }: { paths: Record<string, object> } = (await app.inject('/docs/json')).json()
  const routes = Object.entries(paths).flatMap(
    ([url, methods]) => Object.keys(methods).map((method) => `${method.toUpperCase()} ${url}`)
  )
  const listed = tableOf(readme, 'method').map(([method = '', url = '']) => `${method} ${url.replaceAll('`', '')}`)
  const documentation = ['GET /docs', 'GET /docs/json']
  t.strictSame(listed.toSorted(), [...routes, ...documentation].toSorted(), 'endpoints')
  for (const url of documentation) t.equal((await app.inject(url.slice(4))).statusCode, 200, url)

  const codes = errors.errorClasses.map((ErrorClass) => new ErrorClass()).map(({ code, statusCode }) => [
    `\`${code}\``, String(statusCode)
  ])
  t.strictSame(tableOf(guide, 'code').map(([code, status]) => [code, status]).toSorted(), codes.toSorted(), 'errors')

  const { scripts }: { scripts: Record<string, string> } = JSON.parse(readFileSync('package.json', 'utf8'))
  for (const [path, text] of documents) {
    for (const [command, name = ''] of text.matchAll(/npm run (?:-s )?([\w:]+)/g)) {
      t.ok(name in scripts, `${path}: ${command}`)
    }
  }
  const commands = tableOf(readme, 'command').map(([command = '']) => command.replaceAll('`', ''))
  const short = ['start', 'test']
  t.strictSame(
    commands.toSorted(),
    Object.keys(scripts).filter((name) => name !== 'prepare').map(
      (name) => `npm ${short.includes(name) ? '' : 'run '}${name}`
    ).toSorted(),
    'commands'
  )
})

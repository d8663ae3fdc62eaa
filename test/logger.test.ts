import { readFile } from 'node:fs/promises'
import Fastify from 'fastify'
import pino from 'pino'
import t from './run/tap.js'
import { TenantInactive } from '../src/errors.js'
import { describeError, loggerOptions } from '../src/logger.js'

const canary = 'canary-value'

/** The output of our logger: its text, and its parsed lines. */
function lines (write: (logger: pino.Logger) => void, level = 'trace') {
  let text = ''
  write(pino(loggerOptions(level), { write (line: string) { text += line } }))
  const read: Record<string, unknown>[] = text.split('\n').slice(0, -1).map((line) => JSON.parse(line))
  return { text, read }
}

/** The error that the attempt throws. */
async function thrownBy (attempt: () => unknown): Promise<unknown> {
  try {
    await attempt()
  } catch (err) {
    return err
  }
  throw new Error('nothing was thrown')
}

await t.test('the log of a request contains its path without the query string', async (t) => {
  let text = ''
  const fastify = Fastify({ logger: { ...loggerOptions('trace'), stream: { write (line: string) { text += line } } } })
  fastify.get('/there', async () => 'ok')
  await fastify.inject({
    url: `/there?code=${canary}&x=?${canary}`,
    headers: { authorization: `Bearer ${canary}`, cookie: canary }
  })
  await fastify.close()
  t.match(text, '"req":{"method":"GET","path":"/there","ip":"127.0.0.1"}')
  t.notMatch(text, canary)
})

await t.test('describeError shows the message of an error only when it cannot contain a value', async (t) => {
  const parse = await thrownBy(() => JSON.parse(canary))
  const system = await thrownBy(async () => await readFile('/no/such/file'))
  t.match(describeError(system), { type: 'Error', code: 'ENOENT', message: /^ENOENT: no such file/ })
  t.match(describeError(
    new TenantInactive()
  ), { code: 'TENANT_INACTIVE', message: /deactivated/, stack: /^ {4}at .*\.ts:\d+/ })
  t.match(describeError(parse), { type: 'SyntaxError', message: undefined, stack: / {4}at JSON\.parse/ })
  t.strictSame(describeError(canary), { type: 'string' })
  t.strictSame(describeError(null), { type: 'object' })

  const wrapped = new TenantInactive(
    {
      cause: new Error(
        canary,
        {
          cause: Object.assign(new Error(canary), {
            code: '23505',
            constraint: 'c',
            table: 't',
            routine: 'r',
            detail: canary,
            where: canary
          })
        }
      )
    }
  )
  t.match(describeError(wrapped), {
    code: 'TENANT_INACTIVE',
    cause: { type: 'Error', cause: { code: '23505', constraint: 'c', table: 't', routine: 'r' } }
  })
  const stackless = Object.assign(new Error(canary), { stack: undefined })
  const lookalike = new Error(`first line\n    at ${canary}`)
  t.notMatch(JSON.stringify([parse, wrapped, stackless, lookalike].map(describeError)), canary)
})

await t.test('an error is logged without its values in every calling form', async (t) => {
  const err = Object.assign(new Error(canary), { query: canary, params: [canary] })
  const { text, read } = lines((logger) => {
    logger.error(err)
    logger.error({ err })
    logger.error({ err }, undefined)
    logger.child({ child: true }).error(err)
    logger.error({ err }, 'in our %s', 'words')
    logger.error(err, 'in our words')
    logger.info('only words')
    logger.info({ fields: 1 })
  })
  t.notMatch(text, canary)
  t.match(read, [
    ...Array(3).fill({ err: { type: 'Error' }, msg: 'error' }),
    { err: { type: 'Error' }, msg: 'error', child: true },
    { msg: 'in our words' },
    { msg: 'in our words' },
    { msg: 'only words' },
    { fields: 1 }
  ])
})

await t.test('a secret that is logged under its name is redacted', async (t) => {
  const secrets = Object.fromEntries(
    [
      'access_token', 'fb_app_secret', 'verify_token', 'refresh_token', 'password', 'authorization'
    ].map((name) => [name, canary])
  )
  const { text, read } = lines((logger) => { logger.info({ ...secrets, config: secrets, waba_id: 'shown' }) })
  t.notMatch(text, canary)
  t.match(read, [{ waba_id: 'shown', access_token: '[Redacted]' }])
})

await t.test('the logger drops lines below the configured level', async (t) => {
  t.equal(lines((logger) => { logger.info('x') }, 'warn').text, '')
  t.match(lines((logger) => { logger.warn('x') }, 'warn').text, '"msg":"x"')
})

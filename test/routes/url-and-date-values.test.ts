import t from '../run/tap.js'
import { config } from './client.js'
import { urls, valuesService } from './values-service.js'

const { call, tenant, assertRefused } = await valuesService(t)

await t.test('an invalid or unsafe URL is refused', async (t) => {
  await assertRefused(t, urls, [
    'a.example', '//a.example', '/path', 'https:', 'https://', 'https:a.example', 'https:/a.example',
    'https:///a.example', 'https:\\\\a.example',
    'http://a.example', 'http://127.0.0.2', 'http://localhost.example', 'http://localhost@a.example', 'http://10.0.0.1',
    'ftp://a.example', 'javascript:alert(1)',
    'data:text/plain,x', 'file:///etc/passwd', 'JAVASCRIPT://a.example/%0aalert(1)', 'https://u:p@a.example',
    'https://u@a.example', 'https://@a.example',
    'https://:@a.example', 'https://a.example\\@b.example', 'https://a.example/\\b', 'https://a.example/a b',
    'https://a b.example', 'https://a.example/\u00a0x',
    'https://a.example:99999', 'https://a.example:x', 'https://[::1', 'https://a.example/\n', 'https://a\t.example',
    ' https://a.example', 'https://a.example ',
    'https://a.example/\0', 'https://a.example/\ud800', 'https://%', 'https://a..example:0x1'
  ])
})

await t.test('an invalid or ambiguous date is refused', async (t) => {
  await assertRefused(t, ['token_expires_at'], [
    '2026-02-30T00:00:00Z', '2026-02-29T00:00:00Z', '2100-02-29T00:00:00Z', '2026-04-31T00:00:00Z',
    '2026-13-01T00:00:00Z', '2026-00-01T00:00:00Z', '2026-01-00T00:00:00Z',
    '2026-01-01T24:00:00Z', '2026-01-01T25:00:00Z', '2026-01-01T00:60:00Z', '2026-06-30T23:59:60Z',
    '2026-01-01T00:00:61Z',
    '2026-01-01', '2026-01-01T00:00:00', '2026-01-01 00:00:00Z', '2026-01-01T00:00Z', '2026-01-01T00:00:00+0100',
    '2026-01-01T00:00:00+01', '2026-01-01T00:00:00+24:00',
    '2026-01-01T00:00:00+01:60', '2026-01-01T00:00:00.Z', '2026-01-01T00:00:00,5Z', '2026-01-01T00:00:00.1234567890Z',
    '2026-1-1T00:00:00Z', '26-01-01T00:00:00Z',
    '0000-01-01T00:00:00Z', '0001-01-01T00:00:00+00:01', '9999-12-31T23:59:59-00:01', '9999-12-31T00:30:00-23:59',
    '10000-01-01T00:00:00Z', '+010000-01-01T00:00:00Z',
    '-0001-01-01T00:00:00Z', 'now', 'infinity', 'tomorrow', '1767225600', ' 2026-01-01T00:00:00Z',
    '2026-01-01T00:00:00Z ', '2026-01-01T00:00:00Z\n', '２026-01-01T00:00:00Z'
  ])
})

await t.test('a date is returned as the same moment in UTC', async (t) => {
  for (const [sent, read] of [
    ['2026-02-28T23:59:59Z', '2026-02-28T23:59:59.000000Z'],
    ['2028-02-29T12:00:00.5+02:00', '2028-02-29T10:00:00.500000Z'],
    ['2026-01-01t00:00:00z', '2026-01-01T00:00:00.000000Z'],
    ['2026-01-01T00:00:00-00:00', '2026-01-01T00:00:00.000000Z'],
    ['2026-01-01T00:00:00+23:59', '2025-12-31T00:01:00.000000Z'],
    ['2026-01-01T00:00:00-23:59', '2026-01-01T23:59:00.000000Z'],
    ['0001-01-01T00:00:00Z', '0001-01-01T00:00:00.000000Z'],
    ['9999-12-31T23:59:59.999999999Z', '9999-12-31T23:59:59.999000Z']
  ] as const) t.equal((await call(tenant, 'PUT', config, { token_expires_at: sent })).body.token_expires_at, read, sent)
})

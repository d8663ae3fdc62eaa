import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseEnv } from 'node:util'
import t from '../run/tap.js'
import { parseDotEnv, readDotEnv } from '../../src/settings/dot-env.js'
import { findMisspelledNames } from '../../src/settings/values.js'

const parse = (text: string | Buffer) => parseDotEnv(Buffer.from(text), '/somewhere/.env')
const valuesOf = (text: string) => Object.fromEntries(parse(text).map(({ name, value }) => [name, value]))

await t.test('a valid line is parsed as Node parses it', (t) => {
  for (const text of [
    '', '\n\n', '# a comment', 'A=1', 'A=', 'A=""', "A=''", ' A = 1 ', 'export A=1',
    'A=1 # a comment', 'A= # a comment', 'A="1" # a comment', 'A="1 # 2"', "A='1#2'", 'A=`1#2`', 'A="it\'s"',
    'A=\'"1"\'', 'A=it\'s', 'A=a b',
    'A=a=b==', 'A="a\\nb"', "A='a\\nb'", 'A="a\\tb"', 'A=a\\nb', 'A=$B', 'A="$B"', 'A=1\nA=2', 'a=1\nA=2', 'A_1=x\nB=y',
    'A=é', 'A="# é"',
    'postgres=postgres://u:p%23@h/x?a=b&c=d'
  ]) t.strictSame(valuesOf(text), { ...parseEnv(text) }, JSON.stringify(text))
  // Node 20 reads these blanks as part of the name.
  t.strictSame(valuesOf('\t# B=1\n\tA=1\t\n  # c\nexport\t C=1'), { A: '1', C: '1' })
  t.end()
})

await t.test('a byte order mark, CRLF and CR change nothing', (t) => {
  const expected = [{ name: 'NODE_ENV', value: 'production', line: 1 }, { name: 'A', value: '1', line: 3 }]
  for (const text of [
    'NODE_ENV=production\n# c\nA=1\n', 'NODE_ENV=production\r\n# c\r\nA=1\r\n', 'NODE_ENV=production\r# c\rA=1'
  ]) {
    for (const mark of ['', '\uFEFF']) t.strictSame(parse(mark + text), expected, JSON.stringify(mark + text))
  }
  t.strictSame(
    parse('A=1\n\uFEFFNODE_ENV=production'),
    [{ name: 'A', value: '1', line: 1 }, { name: 'NODE_ENV', value: 'production', line: 2 }],
    'two concatenated files'
  )
  t.strictSame(
    valuesOf('spring.name=x\nwith-dash=y\n# \u2028'),
    { 'spring.name': 'x', 'with-dash': 'y' },
    'names of other programs are accepted'
  )
  t.end()
})

await t.test('an invalid line is refused with its number and without its value', (t) => {
  const canary = 'canary-5c1f'
  for (const line of [
    canary, `A: ${canary}`, `export A ${canary}`, `export ${canary}`, `=${canary}`, `1A=${canary}`, `A B=${canary}`,
    `"A"=${canary}`, `\u200bA=${canary}`,
    `A="${canary}`, `A='${canary}`, `A=\`${canary}`, `A="${canary}'`, `A="${canary}" x`, `A="a"${canary}"`,
    `A="a\\"${canary}"`, `A="${canary}"#c`,
    `A=${canary}#c`, `A=#${canary}`, `A=a#${canary} # c`, `N\0O\0D\0E\0=${canary}`
  ]) {
    t.throws(
      () => parse(`B="1"\r\n# c\n\n${line}\nC=2`),
      { message: /^\/somewhere\/\.env, line 4: / },
      JSON.stringify(line)
    )
    try { parse(line) } catch (err) { t.notMatch(String(err), canary) }
  }
  t.throws(
    () => parse(`A=${canary}#c`),
    { message: '/somewhere/.env, line 1: put the value into quotes if # is part of it, else put a blank before #.' }
  )
  const openQuote = 'FOO="x\nNODE_ENV=production\nBAR=y"'
  t.throws(
    () => parse(openQuote),
    { message: /, line 1: the value must end with the quote/ },
    'an open quote does not swallow the next setting'
  )
  t.match(parseEnv(openQuote), { FOO: /production/, NODE_ENV: undefined }, 'Node swallows it')
  t.throws(
    () => parse('PEM="-----BEGIN KEY-----\nMIIB\n-----END KEY-----"'),
    { message: /, line 1: / },
    'a value of several lines is refused'
  )
  t.match(
    valuesOf('PEM="-----BEGIN KEY-----\\nMIIB\\n-----END KEY-----"'),
    { PEM: '-----BEGIN KEY-----\nMIIB\n-----END KEY-----' }
  )
  t.end()
})

await t.test('another encoding is refused with the first line that shows it', (t) => {
  const text = 'NODE_ENV=production\n# Bücher\n'
  const utf16 = Buffer.from(`\uFEFF${text}`, 'utf16le')
  const bigEndian = Buffer.from(utf16).swap16()
  for (const [bytes, line] of [
    [utf16, 1], [bigEndian, 1], [utf16.subarray(2), 1], [bigEndian.subarray(2), 1], [Buffer.from(text, 'latin1'), 2]
  ] as const) {
    t.throws(() => parse(bytes), { message: new RegExp(`, line ${line}: `) })
  }
  t.throws(() => parse(Buffer.from(text, 'latin1')), { message: /UTF-8/ })
  t.end()
})

await t.test('a missing file counts as empty; an unreadable one is refused', async (t) => {
  const dir = t.testdir({ good: 'A=1', loop: t.fixture('symlink', 'loop') })
  t.strictSame(await readDotEnv(join(dir, 'none')), [])
  t.strictSame(await readDotEnv(join(dir, 'good')), [{ name: 'A', value: '1', line: 1 }])
  mkdirSync(join(dir, 'directory'))
  await t.rejects(readDotEnv(join(dir, 'directory')), { message: `${join(dir, 'directory')} is a directory.` })
  await t.rejects(readDotEnv(join(dir, 'loop')), { message: `${join(dir, 'loop')} cannot be read (ELOOP).` })
  writeFileSync(join(dir, 'bad'), 'A=1\nB')
  await t.rejects(
    readDotEnv(join(dir, 'bad')),
    { message: `${join(dir, 'bad')}, line 2: this is neither NAME=value nor a comment.` }
  )
})

await t.test('a name within two letters of a setting is reported with its line', (t) => {
  const names = ['PORT', 'HOST', 'NODE_ENV', 'JWT_SECRET', 'JWT_SECRET_FILE', 'DATABASE_URL', 'DATABASE_DIRECT_URL']
  const likely = (name: string) => findMisspelledNames(parse(`# c\n${name}=canary-value`), names)
  for (const [name, meant] of [
    ['JWT_SECRT', 'JWT_SECRET'], ['JWT_SECRETS', 'JWT_SECRET'], ['JTW_SECRET', 'JWT_SECRET'],
    ['jwt_secret', 'JWT_SECRET'], ['JWT-SECRET', 'JWT_SECRET'], ['NODE_EN', 'NODE_ENV'],
    ['NODEENV', 'NODE_ENV'], ['DATABSE_URL', 'DATABASE_URL'], ['DATABASE_URI', 'DATABASE_URL'],
    ['JWT_SECRET_FIL', 'JWT_SECRET_FILE'], ['PROT', 'PORT'], ['HSOT', 'HOST']
  ] as const) {
    t.strictSame(
      likely(name),
      [`.env, line 2: ${name} is not a setting and has no effect. Is it meant to be ${meant}?`]
    )
  }
  for (const name of [
    ...names, 'PGPORT', 'PGHOST', 'POSTGRES_URL', 'DB_HOST', 'SECRET', 'JWT_KEY', 'PATH', 'TZ', 'REDIS_URL'
  ]) t.strictSame(likely(name), [], name)
  t.end()
})

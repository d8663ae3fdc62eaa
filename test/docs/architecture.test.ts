import { existsSync, readdirSync, readFileSync } from 'node:fs'
import t from '../run/tap.js'
import { createDatabase, query } from '../helper.js'

const architecture = readFileSync('docs/architecture.md', 'utf8').replace(/^```.*?^```$/gms, '')

/** The text between a heading and the next one of its level. */
const section = (text: string, heading: string) => text.split(`\n## ${heading}\n`)[1]?.split('\n## ')[0] ?? ''

/** The cells of the rows of a table, without its header. */
const rowsOf = (text: string) =>
  text.split('\n').filter((line) => line.startsWith('|')).slice(2).map(
    (line) => line.split('|').slice(1, -1).map((cell) => cell.trim())
  )

/** The words in backticks. */
const codeIn = (text: string) => [...text.matchAll(/`([^`]+)`/g)].map(([, code = '']) => code)

await t.test('the glossary has at most 25 terms', async (t) => {
  const terms = rowsOf(section(architecture, 'Words'))
  t.ok(terms.length > 10 && terms.length <= 25, `${terms.length} terms`)
})

await t.test('the table of triggers names those of the database, and no others', async (t) => {
  const url = await createDatabase(t, { watched: true })
  const triggers = await query(url, 'select tgname as name from pg_trigger where not tgisinternal order by tgname')
  const named = rowsOf(section(architecture, 'Database triggers')).flatMap(([trigger = '']) => codeIn(trigger))
  t.same(named.sort(), triggers.map(({ name }) => name))
})

await t.test('every file that architecture.md names exists', async (t) => {
  const files = codeIn(architecture).filter((code) => /^[a-z/-]+(\.sql)?\.ts$/.test(code))
  t.ok(files.length > 15)
  for (const file of files) t.ok(existsSync(`src/${file}`), file)
})

await t.test('the layout of the README lists the entries of src/', async (t) => {
  const listed = rowsOf(section(readFileSync('README.md', 'utf8'), 'Layout')).flatMap(([names = '']) => codeIn(names))
  const there = readdirSync(
    'src',
    { withFileTypes: true }
  ).map((entry) => entry.isDirectory() ? `${entry.name}/` : entry.name)
  t.same(listed.sort(), there.sort())
})

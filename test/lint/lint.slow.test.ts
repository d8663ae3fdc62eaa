import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { ESLint } from 'eslint'
import t from '../run/tap.js'

// With CI set, the parser reads each file from the disk only once and ignores the text that it is given.
const eslint = new ESLint({
  overrideConfig: { languageOptions: { parserOptions: { disallowAutomaticSingleRunInference: true } } }
})

/** The rules that a file with this text breaks, were it in the place of `path`. */
async function broken (path: string, text: string): Promise<string[]> {
  const [result] = await eslint.lintText(text, { filePath: path })
  return result?.messages.map(({ ruleId, message }) => `${ruleId} ${message}`) ?? []
}

const value = (specifier: string, name = 'x') => `import { ${name} } from '${specifier}'\n\nexport const y = ${name}\n`
const type = (specifier: string) => `import type { X } from '${specifier}'\n\nexport type Y = X\n`
const lines = (count: number) => Array.from({ length: count }, (_, line) => `  console.log(${line})`).join('\n')

const offenders: Array<[rule: RegExp, what: string, path: string, text: string]> = [
  [/by their door/, 'a value of another folder', 'src/events/events.ts', value('../token-watch/state.js')],
  [/by their door/, 'a value of a folder within another one', 'src/server.ts', value('./database/embedded/cluster.js')],
  [/local\/door Only the door/, 'a plugin that is no door', 'src/events/outbox.sql.ts', value('fastify-plugin', 'fp')],
  [
    /local\/door A door decorates/,
    'a door with two decorators',
    'src/vault/vault.ts',
    "import fp from 'fastify-plugin'\n\nexport const createX = fp\nexport default (f: any) => { f.decorate('a'); " +
      "f.decorate('b') }\n"
  ],
  [
    /local\/door A door exports/,
    'a door without a factory',
    'src/vault/vault.ts',
    "import fp from 'fastify-plugin'\n\nexport default fp\n"
  ],
  [/own folder/, 'a statement of another folder', 'src/events/events.ts', type('../token-watch/token-watch.sql.js')],
  [/not Fastify/, 'a *.sql.ts that imports Fastify', 'src/events/outbox.sql.ts', type('fastify')],
  [/SQL stands in/, 'SQL outside of *.sql.ts', 'src/events/events.ts', value('drizzle-orm', 'sql')],
  [/point one way/, 'a lower folder that imports a higher one', 'src/vault/vault.ts', type('../onboarding/service.js')],
  [/point one way/, 'strangers that import each other', 'src/events/events.ts', type('../onboarding/service.js')],
  [/point one way/, 'the loader that imports the app', 'src/config-loader/loader.ts', type('../app.js')],
  [/import-x\/no-cycle/, 'a cycle', 'src/onboarding/record.ts', value('./lease.js', 'lease')],
  [/through decorators/, 'a route that imports behaviour', 'src/routes/health.ts', type('../vault/vault.js')],
  [/TypeBox only/, 'a schema that imports more than TypeBox', 'src/schemas/admin.ts', type('../errors.js')],
  [/TypeBox only/, 'a schema in a folder that does so', 'src/schemas/history/versions.ts', type('../../errors.js')],
  [/No barrels/, 'a barrel', 'src/events/events.ts', "export * from './outbox.sql.js'\n"],
  [/no-process-env/, 'an env read outside settings/', 'src/events/events.ts', "export const y = process.env['HOME']\n"],
  [/max-lines/, 'a long file', 'src/events/events.ts', `${lines(251)}\n`],
  [
    /local\/functionLines/,
    'a long function',
    'src/events/events.ts',
    `export function long (): void {\n${lines(60)}\n}\n`
  ],
  [/max-len/, 'a wide line', 'src/events/events.ts', `export const y = '${'x'.repeat(120)}'\n`]
]

for (const [rule, what, path, text] of offenders) {
  await t.test(`lint refuses ${what}`, async (t) => {
    t.match((await broken(path, text)).filter((message) => rule.test(message)), [rule])
  })
}

await t.test('lint accepts a type of any lower file', async (t) => {
  t.same(await broken('src/token-watch/state.ts', type('../events/events.js')), [])
})

await t.test('a folder has at most 12 files, src/ itself 5', (t) => {
  const inside = ['src', 'test'].flatMap((root) => readdirSync(root, { recursive: true, withFileTypes: true }))
  const folders = inside.filter((entry) => entry.isDirectory()).map((entry) => join(entry.parentPath, entry.name))
  for (const folder of ['src', ...folders]) {
    const files = readdirSync(folder, { withFileTypes: true }).filter((entry) => entry.isFile())
    t.ok(files.length <= (folder === 'src' ? 5 : 12), `${folder} has ${files.length} files`)
    t.notOk(/utils|helpers|^types$/.test(folder), `${folder} has no purpose of its own`)
  }
  t.end()
})

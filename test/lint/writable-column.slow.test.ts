import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import t from '../run/tap.js'
import ts from 'typescript'

// TypeScript compiles src/ once for each place.
t.setTimeout(300_000)

/** Where a further writable column has to be written down: the file, the line it follows, and the line itself. */
const places: Array<[file: string, after: string, line: string]> = [
  ['src/schemas/columns.ts', "  refresh_token: 'secret'", "  nickname: 'plain'"],
  [
    'src/schemas/config.ts',
    "  refresh_token: 'Secret: kept for you; Meta issues none'",
    "  nickname: 'How people call it'"
  ],
  [
    'src/schemas/config.ts',
    '  refresh_token: Type.Optional(nullable(text(4096, { description: about.refresh_token })))',
    '  nickname: Type.Optional(nullable(text(255, { description: about.nickname })))'
  ],
  ['src/schemas/config.ts', "  verify_token: 'a-verify-token-of-yours'", "  nickname: 'Lucky Shrub'"],
  [
    'src/schemas/config.ts', '    refresh_token: secret(about.refresh_token)',
    '    nickname: textOrNull(about.nickname)'
  ],
  ['src/database/schema/columns.ts', '  refresh_token: text()', '  nickname: text()']
]

const config = ts.getParsedCommandLineOfConfigFile('tsconfig.json', { noEmit: true }, {
  ...ts.sys,
  onUnRecoverableConfigFileDiagnostic: ({ messageText }) => { throw new Error(String(messageText)) }
})

/** The errors of the compiler for src/ with a column written down in these places. */
function errorsWith (written: typeof places): string[] {
  const host = ts.createCompilerHost(config?.options ?? {})
  const { readFile } = host
  const texts = new Map(written.map(([file]) => [resolve(file), readFileSync(file, 'utf8')]))
  for (const [file, after, line] of written) {
    const text = String(texts.get(resolve(file)))
    const end = [',\n', '\n'].find((end) => text.includes(after + end))
    if (end === undefined) throw new Error(`${file} has no line ${after}`)
    texts.set(resolve(file), text.replace(after + end, `${after},\n${line}${end}`))
  }
  host.readFile = (file) => texts.get(resolve(file)) ?? readFile(file)
  const program = ts.createProgram(config?.fileNames ?? [], config?.options ?? {}, host)
  return ts.getPreEmitDiagnostics(program).map(
    ({ file, messageText }) => `${file?.fileName} ${ts.flattenDiagnosticMessageText(messageText, ' ')}`
  )
}

await t.test('a writable column compiles once it is written down everywhere', async (t) => {
  t.same(errorsWith(places), [])
})

for (const forgotten of places) {
  const [file, , line] = forgotten
  await t.test(`it does not compile without${line} in ${file}`, async (t) => {
    t.not(errorsWith(places.filter((place) => place !== forgotten)).length, 0)
  })
}

await t.test('it does not compile in src/database/schema/columns.ts alone', async (t) => {
  t.match(errorsWith(places.filter(([file]) => file === 'src/database/schema/columns.ts')), [/columns\.ts .*nickname/])
})

import { readFile, writeFile } from 'node:fs/promises'
import t from '../run/tap.js'
import { refused, run } from './run.js'

const command = 'src/cli/openapi.ts'
const document = 'docs/openapi.json'

await t.test('the written document equals the committed one, for any settings', async (t) => {
  const committed = await readFile(document, 'utf8')
  t.teardown(async () => await writeFile(document, committed))
  const env = { NODE_ENV: 'production', JWT_SECRET: '', ENCRYPTION_KEYS: '', GRAPH_API_VERSION: 'unusable' }
  t.match(await run(t, [command], env), { code: 0, stdout: /^Wrote .*docs.openapi\.json\n$/, stderr: '' })
  t.equal(
    await readFile(document, 'utf8'),
    committed,
    'docs/openapi.json is current; if not, run `npm run openapi` and commit'
  )
})

await t.test('an option is refused', async (t) => {
  refused(t, await run(t, [command, 'elsewhere.json']), /elsewhere\.json.*npm run openapi/s)
})

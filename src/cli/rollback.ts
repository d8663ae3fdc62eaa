import { createInterface } from 'node:readline/promises'
import { rollback } from '../database/migrations/migrations.js'
import { readOptions, runCli } from './command.js'
import { readCommandEnv } from './command-settings.js'
import { startDatabase } from './start-database.js'

const USAGE = `Undoes the newest migration, once its name is typed, and deletes what its tables hold.
  npm run db:rollback [-- --yes]`

await runCli(async (stopAtEnd) => {
  const { yes = false } = readOptions({ yes: { type: 'boolean' } }, USAGE)
  const undone = await rollback(await startDatabase(stopAtEnd, await readCommandEnv()), async (name) => {
    if (!yes && await askForName(name) !== name) throw new Error(`That is not ${name}: nothing was undone.`)
    return true
  }, { report: console.error })
  console.log(undone === null ? 'There is no migration to undo.' : `Undid ${undone}.`)
})

/** Asks for the name of the migration. Returns an empty text when stdin ends. */
async function askForName (name: string): Promise<string> {
  const terminal = createInterface({ input: process.stdin, output: process.stdout })
  const closed = new Promise<string>((resolve) => { terminal.once('close', () => resolve('')) })
  const question = `This undoes ${name} and deletes what its tables hold. Type its name to go on: `
  const answer = await Promise.race([terminal.question(question), closed])
  terminal.close()
  return answer
}

import { createInterface } from 'node:readline/promises'
import { rollback } from '../database/migrations/migrations.js'
import { command, readOptions } from './command.js'
import { databaseUrl } from './database-url.js'

const USAGE = `Undoes the newest migration, once its name is typed, and deletes what its tables hold.
  npm run db:rollback [-- --yes]`

await command(async (hold) => {
  const { yes = false } = readOptions({ yes: { type: 'boolean' } }, USAGE)
  const undone = await rollback(await databaseUrl(hold), async (name) => {
    if (!yes && await typed(name) !== name) throw new Error(`That is not ${name}: nothing was undone.`)
    return true
  }, { report: console.error })
  console.log(undone === null ? 'There is no migration to undo.' : `Undid ${undone}.`)
})

/** Asks for the name of the migration, whose data is lost with it; empty when there is nobody to answer. */
async function typed (name: string): Promise<string> {
  const terminal = createInterface({ input: process.stdin, output: process.stdout })
  const closed = new Promise<string>((resolve) => { terminal.once('close', () => resolve('')) })
  const answer = await Promise.race([terminal.question(`This undoes ${name} and deletes what its tables hold. Type its name to go on: `), closed])
  terminal.close()
  return answer
}

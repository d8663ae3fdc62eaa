import { createInterface } from 'node:readline/promises'
import { parseArgs } from 'node:util'
import { rollback } from '../db/migrate.js'
import { withDatabase } from './with-database.js'

const { values: { yes } } = parseArgs({ options: { yes: { type: 'boolean', default: false } } })

await withDatabase(async (url) => {
  let asked = false
  const undone = await rollback(url, async (name) => {
    asked = true
    return yes || await typed(name)
  })
  if (undone !== null) console.log(`Undid ${undone}.`)
  else if (!asked) console.log('There is no migration to undo.')
  else {
    console.error('Nothing was undone.')
    process.exitCode = 1
  }
})

/** Asks for the name of the migration, whose data is lost with it. */
async function typed (name: string): Promise<boolean> {
  const terminal = createInterface({ input: process.stdin, output: process.stdout })
  const closed = new Promise<string>((resolve) => { terminal.once('close', () => resolve('')) })
  const answer = await Promise.race([terminal.question(`This undoes ${name} and deletes what its tables hold. Type its name to go on: `), closed])
  terminal.close()
  return answer === name
}

import { command, readOptions } from './command.js'
import { raise } from './demo/stage.js'
import { teller } from './demo/steps.js'
import { story } from './demo/story.js'

const USAGE = `Walks through what the service does, on free ports and with a database of its own that is deleted in the end.
  npm run demo`

await command(async (hold) => {
  readOptions({}, USAGE)
  const { step, held } = teller(console.log)
  await story(await raise(hold, console.log), step)
  console.log(`\nAll ${held()} steps held.`)
})

import { readOptions, runCli } from './command.js'
import { startStage } from './demo/stage.js'
import { createSteps } from './demo/steps.js'
import { runStory } from './demo/story.js'

const USAGE = 'Walks through what the service does, ' +
  'on free ports and with a database of its own that is deleted in the end.\n  npm run demo'

await runCli(async (stopAtEnd) => {
  readOptions({}, USAGE)
  const { step, passed } = createSteps(console.log)
  await runStory(await startStage(stopAtEnd, console.log), step)
  console.log(`\nAll ${passed()} steps held.`)
})

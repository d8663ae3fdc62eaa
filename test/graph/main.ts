import type { App, WabaSeed } from './state.js'
import { startGraph } from './server.js'

// The stand-in as a process of its own. Takes an app and a WABA as JSON; prints where it listens and a code of a login, as one line of JSON.
const { app: appSeed = {}, waba = {} }: { app?: Partial<App>, waba?: Partial<WabaSeed> } = JSON.parse(process.argv[2] ?? '{}')
const { state, url } = await startGraph()
const app = state.addApp(appSeed)
state.addWaba({ app_ids: [app.app_id], ...waba })
console.log(JSON.stringify({ url, code: state.issueCode({ app_id: app.app_id }) }))
// It does not outlive a parent that holds a channel to it.
process.once('disconnect', () => process.exit())

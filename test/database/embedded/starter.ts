import { startEmbedded } from '../../../src/database/embedded/embedded.js'

// A server to be killed: tells its URL on stdout, then lives until it is signalled, or ends at once if told so.
const [dataDir = '', lives] = process.argv.slice(2)
const database = await startEmbedded(dataDir)
console.log(database.url)
if (lives === 'lives') setInterval(() => {}, 60_000)

import { startEmbedded } from '../../../src/database/embedded/embedded.js'

// A server process to be killed: prints its URL, then runs until a signal. Without the argument `lives` it ends at
// once.
const [dataDir = '', lives] = process.argv.slice(2)
const database = await startEmbedded(dataDir)
console.log(database.url)
if (lives === 'lives') setInterval(() => {}, 60_000)

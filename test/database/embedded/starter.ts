import { startEmbedded } from '../../../src/database/embedded/embedded.js'

// A server process to be killed: prints its URL, then runs until a signal, or exits if its mode is not `run`.
const [dataDir = '', mode] = process.argv.slice(2)
const database = await startEmbedded(dataDir)
console.log(database.url)
if (mode === 'run') setInterval(() => {}, 60_000)

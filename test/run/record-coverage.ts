import { randomUUID } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { Session } from 'node:inspector'

// Preloaded into each test and each process it starts: writes what that covered of src/ in the format of
// NODE_V8_COVERAGE, which itself would write some megabytes for each, of all packages. Tap's own preload sends each
// import through a second thread; a process then takes twice as long to start. The query names the beginning of the
// file to write.
const file = `${decodeURIComponent(new URL(import.meta.url).search.slice(1))}${randomUUID()}.json`
const sources = new URL('../../src/', import.meta.url).href
const session = new Session()
session.connect()
session.post('Profiler.enable')
session.post('Profiler.startPreciseCoverage', { callCount: true, detailed: true })

process.on('exit', () => {
  session.post('Profiler.takePreciseCoverage', (err, coverage) => {
    if (err !== null) throw err
    writeFileSync(file, JSON.stringify({ result: coverage.result.filter(({ url }) => url.startsWith(sources)) }))
  })
})

import { readFile } from 'node:fs/promises'
import { Type } from '@sinclair/typebox'
import { Value } from '@sinclair/typebox/value'
import { verifyAuditLog, type BrokenLink, type HeadRow } from '../audit/inspection.js'
import { withClient } from '../database/connection.js'
import { replaceUnprintable } from '../logger.js'
import { readOptions, runCli } from './command.js'
import { openKeyDatabase } from './keys/key-database.js'

const USAGE = `Verifies the audit log, and names the first broken link of each chain. With --head it also finds what was
cut off the end: FILE has what audit:head printed earlier.
  npm run -s audit:verify [-- --head FILE] [--tenant <id>]`

const PROGRESS_MS = 200

const NotedHead = Type.Object({ tenant_id: Type.String(), seq: Type.Integer(), hmac: Type.String() })

await runCli(async (stopAtEnd) => {
  const { head: file, tenant } = readOptions({ head: { type: 'string' }, tenant: { type: 'string' } }, USAGE)
  const noted = file === undefined ? [] : await readHeadFile(file)
  const { vault, url } = await openKeyDatabase(stopAtEnd)
  const { records, broken } = await withClient(url, async (client) =>
    await verifyAuditLog(client, vault, {
      tenantId: tenant,
      noted: noted.filter(({ tenant_id: id }) => tenant === undefined || id === tenant),
      report: (link) => { console.log(describe(link)) },
      progress: createProgress()
    }))
  console.log(`${records} records verified, broken chains: ${broken}.`)
  if (broken > 0) process.exitCode = 1
})

function describe ({ tenant_id: id, seq, kind, detail }: BrokenLink): string {
  return `${id === '' ? 'the chain without a tenant' : replaceUnprintable(id)}: record ${seq} is ${kind}: ${detail}.`
}

async function readHeadFile (path: string): Promise<HeadRow[]> {
  const lines = (await readFile(path, 'utf8')).split('\n').filter((line) => line.trim() !== '')
  return lines.map((line, index) => {
    try {
      return Value.Decode(NotedHead, JSON.parse(line))
    } catch {
      throw new Error(`Line ${index + 1} of the file is not what audit:head prints.`)
    }
  })
}

/** Shows the number of records, some times a second, on a terminal alone. The next output replaces it. */
function createProgress (): (records: number) => void {
  let shownAt = 0
  return (records) => {
    if (!process.stderr.isTTY || performance.now() - shownAt < PROGRESS_MS) return
    shownAt = performance.now()
    process.stderr.write(`${records} records\r`)
  }
}

import { withReader } from '../../database/connection.js'
import { listKeys, type ListedKey } from '../../vault/key-inspection.js'
import { readOptions, runCli } from '../command.js'
import { openKeyDatabase } from './key-database.js'

const USAGE = `Lists the keys, and how many stored secrets each has sealed. Changes nothing.
  npm run -s keys:status`
const TIMEOUT_MS = 600_000

const HEAD = ['key', 'in the ring', 'values', 'of these in v1', 'seals in', 'seals', 'of 2^32']

function cells ({ key_id: id, ring, values, values_in_v1: inV1, use }: ListedKey): string[] {
  const counted = [id, ring, String(values), String(inV1)]
  if (use === null) return [...counted, '-', '-', '-']
  return [...counted, use.format, String(use.seals), `${(use.share * 100).toFixed(2)} %`]
}

await runCli(async (stopAtEnd) => {
  readOptions({}, USAGE)
  const { vault, url } = await openKeyDatabase(stopAtEnd)
  const { keys, unsealed } =
    await withReader(url, async (db) => await listKeys(db, vault), { timeoutMs: TIMEOUT_MS })
  const rows = [HEAD, ...keys.map(cells)]
  const widths = HEAD.map((_, column) => Math.max(...rows.map((row) => String(row[column]).length)))
  for (const row of rows) {
    console.log(row.map((cell, column) => cell.padEnd(Number(widths[column]))).join('  ').trimEnd())
  }
  if (unsealed > 0) console.log(`${unsealed} values are not sealed.`)
})

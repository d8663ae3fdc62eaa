import { withConnection } from '../../database/connection.js'
import { replaceUnprintable } from '../../logger.js'
import { SERVICE } from '../../schemas/columns.js'
import { sealFormats, type SealFormat } from '../../schemas/statuses.js'
import { sumCounts } from '../../vault/key-inspection.js'
import { countOutdated, rotateKeys, type SealedCount } from '../../vault/rotation/rotation.js'
import { readOptions, runCli } from '../command.js'
import { openKeyDatabase } from './key-database.js'
import { createProgress } from './progress.js'

const USAGE = `Seals every stored secret anew, with the first key of ENCRYPTION_KEYS. The service may run meanwhile.
  npm run keys:rotate [-- [--format v1|v2] [--wait <seconds>]]
--format   v2 by default; v1 for a former version, which opens no v2
--wait     how long it waits for tenants whose onboarding runs; 120 by default`

await runCli(async (stopAtEnd) => {
  const { format: name = 'v2', wait = '120' } = readOptions({
    format: { type: 'string' },
    wait: { type: 'string' }
  }, USAGE)
  const format = sealFormats.find((format) => format === name)
  if (format === undefined || !/^\d{1,6}$/.test(wait)) throw new Error(USAGE)
  const { vault, url } = await openKeyDatabase(stopAtEnd)
  const progress = createProgress(process.stderr)
  const startedAt = performance.now()
  const { keyId, replaced, unreadable, counts } = await withConnection(url, async (db) =>
    await rotateKeys(db, vault, { format, waitMs: Number(wait) * 1000, report: progress.report })
  ).finally(progress.end)
  const seconds = Math.ceil((performance.now() - startedAt) / 1000)
  for (const { tenant_id: id, column } of unreadable.places) {
    const owner = id === SERVICE ? 'service' : `tenant ${replaceUnprintable(id)}`
    console.error(`The ${column} of the ${owner} does not open.`)
  }
  console.log(`Sealed ${replaced} values with ${keyId} in ${seconds} s.`)
  for (const line of proof(counts, vault.keyIds, format)) console.log(line)
  const left = countOutdated(counts, keyId, format)
  if (left === 0) return
  throw new Error(`${left} values remain, of which ${unreadable.count} do not open. The others were in use, ` +
    'or a process still seals them so. Run it again.')
})

/** The lines that show how many values are not sealed by the first key in the format. */
function proof (counts: SealedCount[], [first, ...others]: string[], format: SealFormat): string[] {
  const inUse = counts.flatMap(({ key_id: id }) => id === null || id === first ? [] : id)
  const unsealed = sumCounts(counts, (found) => found.format === null)
  return [
    ...[...new Set([...others, ...inUse])]
      .map((id) => `${sumCounts(counts, (found) => found.key_id === id)} values under ${id}`),
    ...sealFormats.filter((other) => other !== format)
      .map((other) => `${sumCounts(counts, (found) => found.format === other)} values in ${other}`),
    ...unsealed === 0 ? [] : [`${unsealed} values that are not sealed`]
  ]
}

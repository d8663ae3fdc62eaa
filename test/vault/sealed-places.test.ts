import { PgDialect } from 'drizzle-orm/pg-core'
import t from '../run/tap.js'
import { storedSecrets } from '../../src/vault/sealed-places.sql.js'
import { createDatabase, query } from '../helper.js'

/** The columns of text or JSON that hold no sealed value. */
const plain = [
  'audit_log.fields', 'idempotency_keys.answer', 'onboardings.steps', 'phone_numbers.display_phone_number',
  'phone_numbers.platform_type', 'phone_numbers.quality_rating', 'phone_numbers.status', 'phone_numbers.verified_name',
  'service_keys.scopes', 'service_keys.tenants', 'tenant_config_versions.changed', 'vault_keys.check_value'
]

await t.test('each column of text or JSON is a place of sealed values, or known as plain', async (t) => {
  const url = await createDatabase(t)
  const columns = await query(
    url,
    `select table_name || '.' || column_name as name from information_schema.columns
     where table_schema = 'public' and data_type in ('text', 'json', 'jsonb', 'ARRAY') order by 1`
  )
  const { sql } = new PgDialect().sqlToQuery(storedSecrets)
  const isSealed = (name: string) => sql.includes(`"${name.replace('.', '"."')}"`)
  t.same(columns.map(({ name }) => String(name)).filter((name) => !isSealed(name)), plain)
})

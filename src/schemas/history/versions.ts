import { Type } from '@sinclair/typebox'
import { configFields, createConfigExample, maskedExample, maskedSecret } from '../config.js'
import { nullable, oneOf, pageLimit, tenantId, timestamp, uuid } from '../fields.js'
import { skipCodes } from '../statuses.js'

/** Versions on a page when the query has no `limit`. */
export const VERSIONS_PAGE_SIZE = 50

/** The query of GET /config/versions. */
export const VersionsQuery = Type.Object({
  limit: pageLimit(VERSIONS_PAGE_SIZE, 'versions'),
  // The cursor of a page whose last version is number 4.
  cursor: Type.Optional(Type.String({ description: '`next_cursor` of the page before', examples: ['NA'] }))
}, { additionalProperties: false })

/** The path parameter of the routes for one version. */
export const VersionParams = Type.Object({
  n: Type.String({
    pattern: '^(previous|[1-9][0-9]{0,15})$',
    description: 'The number of a version; or `previous`: the newest verified one that differs from what is stored now',
    examples: ['previous']
  })
})

const entry = {
  version: Type.Integer({ minimum: 1, description: 'Its number; a later one is larger' }),
  changed_at: timestamp({ description: 'When the configuration stopped being so' }),
  actor: nullable(Type.String({ description: '`sub` of the token of the tenant that changed it; null for others' })),
  changed: Type.Array(Type.String(), { description: 'The fields that were changed then; `deleted` for a deletion' }),
  verified: Type.Boolean({ description: 'Whether Meta had confirmed account, number and token' })
}

const entryExample = {
  version: 4,
  changed_at: '2026-11-23T12:00:00.000000Z',
  actor: 'user-1',
  changed: ['callback_url'],
  verified: true
}

/** A page of versions. */
export const VersionPage = Type.Object({
  versions: Type.Array(Type.Object(entry, { description: 'A former state' }), { description: 'The newest first' }),
  next_cursor: nullable(Type.String({ description: 'Send it as `cursor` for the next page; null on the last one' }))
}, {
  $id: 'VersionPage',
  description: 'A page of former states',
  examples: [{ versions: [entryExample], next_cursor: 'NA' }]
})

// A version is not of the row that the tenant has now.
const { id, updated_at, ...former } = configFields(maskedSecret)
const { id: exampleId, updated_at: exampleTime, ...formerExample } = createConfigExample(maskedExample)

/** A former state of a configuration, with its secrets masked. */
export const Version = Type.Object({ ...entry, ...former }, {
  $id: 'Version',
  description: 'What a configuration was until `changed_at`; its secrets are masked',
  examples: [{ ...entryExample, ...formerExample }]
})

/** The body of POST /admin/configs/restore. */
export const RestoreBody = Type.Union([
  Type.Object({
    tenant_id: tenantId({ description: 'The tenant whose last deleted configuration is restored' })
  }, { additionalProperties: false }),
  Type.Object({
    batch_id: uuid({ description: '`batch_id` of a delete-all' }),
    cursor: Type.Optional(Type.String({ description: '`next_cursor` of the answer before' }))
  }, { additionalProperties: false })
], {
  description: 'A tenant, or a batch',
  examples: [{ tenant_id: 'acme' }]
})

/** The answer of POST /admin/configs/restore. */
export const Restored = Type.Object({
  restored: Type.Integer({ minimum: 0, description: 'How many configurations were restored' }),
  skipped: Type.Array(Type.Object({
    tenant_id: tenantId({ description: 'The tenant' }),
    code: oneOf(skipCodes, {
      description: 'CONFIG_EXISTS: it has a configuration. ' +
        'VERSION_SUPERSEDED: it had one since, which was deleted too. SECRET_UNREADABLE: a secret does not open'
    })
  }), { description: 'Those that were left alone' }),
  next_cursor: nullable(Type.String({
    description: 'A request restores at most 10,000 tenants. Send it as `cursor` for the next ones; null at the end'
  }))
}, {
  $id: 'Restored',
  description: 'Which deleted configurations are back',
  examples: [{ restored: 2, skipped: [{ tenant_id: 'acme', code: 'CONFIG_EXISTS' }], next_cursor: null }]
})

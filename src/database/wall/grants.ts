/** The roles that the service works as, without the prefix of DATABASE_ROLE_PREFIX. */
export const wallRoles = ['tenant', 'admin', 'loader', 'worker'] as const
export type WallRole = typeof wallRoles[number]

/** The tables of the role `audit`, which the service never works as. */
export const auditTables = ['audit_log', 'audit_checkpoints']

/** Returns the name of a role in the cluster, whose databases share all roles. */
export const roleName = (prefix: string, role: WallRole | 'audit'): string => `${prefix}_${role}`

export type Privilege = 'SELECT' | 'INSERT' | 'UPDATE' | 'DELETE'

export interface TableWall {
  /** Whether each row is a tenant's: then the role `tenant` sees those of `app.tenant_id` alone. */
  isOfTenant: boolean
  /** The privileges of each role. */
  grants: Record<WallRole, Privilege[]>
}

const none: Privilege[] = []
const read: Privilege[] = ['SELECT']
const change: Privilege[] = ['SELECT', 'UPDATE']
const all: Privilege[] = ['SELECT', 'INSERT', 'UPDATE', 'DELETE']

/** The privileges of each role on each table. A test compares the list with the tables of the database. */
export const tableWalls: Record<string, TableWall> = {
  tenant_configs: { isOfTenant: true, grants: { tenant: all, admin: all, loader: read, worker: all } },
  // A restoration locks the version, which takes UPDATE.
  tenant_config_versions: {
    isOfTenant: true, grants: { tenant: ['SELECT', 'UPDATE', 'DELETE'], admin: change, loader: none, worker: all }
  },
  version_policy: { isOfTenant: false, grants: { tenant: none, admin: none, loader: none, worker: all } },
  verified_identities: { isOfTenant: true, grants: { tenant: read, admin: read, loader: read, worker: all } },
  token_watch: { isOfTenant: true, grants: { tenant: read, admin: read, loader: read, worker: all } },
  phone_numbers: { isOfTenant: true, grants: { tenant: read, admin: read, loader: none, worker: all } },
  account_states: { isOfTenant: true, grants: { tenant: read, admin: read, loader: none, worker: all } },
  onboardings: { isOfTenant: true, grants: { tenant: change, admin: change, loader: none, worker: all } },
  oauth_states: { isOfTenant: true, grants: { tenant: none, admin: none, loader: none, worker: all } },
  idempotency_keys: { isOfTenant: true, grants: { tenant: all, admin: none, loader: none, worker: all } },
  events_outbox: { isOfTenant: true, grants: { tenant: none, admin: all, loader: none, worker: all } },
  events_ended: { isOfTenant: true, grants: { tenant: none, admin: all, loader: none, worker: all } },
  phone_callbacks: { isOfTenant: false, grants: { tenant: none, admin: none, loader: none, worker: all } },
  webhook_deliveries: { isOfTenant: false, grants: { tenant: none, admin: none, loader: none, worker: all } },
  config_counts: { isOfTenant: false, grants: { tenant: none, admin: read, loader: none, worker: all } },
  config_count_changes: { isOfTenant: false, grants: { tenant: none, admin: read, loader: none, worker: all } },
  // Nobody changes or deletes a record; triggers refuse it to the login too.
  audit_log: {
    isOfTenant: true, grants: { tenant: read, admin: read, loader: none, worker: ['SELECT', 'INSERT'] }
  },
  audit_checkpoints: { isOfTenant: true, grants: { tenant: none, admin: none, loader: none, worker: read } },
  audit_outbox: { isOfTenant: false, grants: { tenant: none, admin: none, loader: none, worker: all } },
  leases: { isOfTenant: false, grants: { tenant: none, admin: none, loader: none, worker: all } },
  service_secrets: { isOfTenant: false, grants: { tenant: none, admin: read, loader: none, worker: all } },
  service_keys: { isOfTenant: false, grants: { tenant: none, admin: none, loader: none, worker: all } },
  vault_keys: { isOfTenant: false, grants: { tenant: none, admin: read, loader: none, worker: all } }
}

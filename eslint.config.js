import { createTypeScriptImportResolver } from 'eslint-import-resolver-typescript'
import importX from 'eslint-plugin-import-x'
import neostandard, { plugins } from 'neostandard'
import { door, functionLines } from './test/lint/rules.js'

/** The folders and loose files of src/, lowest first: imports point to the same line or an earlier one. */
const layers = [
  ['errors', 'schemas', 'waiting', 'tracing'],
  ['settings', 'logger', 'closing'],
  ['tenant-queues', 'outbound'],
  ['database'],
  ['vault'],
  ['meta'],
  ['tenant-configs'],
  ['events'],
  ['audit'],
  ['token-watch'],
  ['config-loader'],
  ['onboarding', 'verification', 'offboarding', 'account-updates', 'retention', 'config-counts', 'service-keys'],
  ['auth', 'metrics'],
  ['http'],
  ['idempotency'],
  ['routes'],
  ['app'],
  ['server', 'cli']
]

const looseFiles = ['errors', 'logger', 'closing', 'app', 'server']

/** Folders on one line that do not know each other. */
const strangers = [
  'onboarding', 'verification', 'offboarding', 'account-updates', 'retention', 'config-counts', 'service-keys'
]

/**
 * The files of a folder that others import values from: the door first, which is the plugin, then files without state.
 * Every file of `schemas`, `waiting` and `http` is open. Types may be imported from any file.
 */
const openFiles = {
  tracing: ['tracing', 'span'],
  settings: ['env', 'ajv-options', 'schema', 'key-ring', 'data-dir', 'local-mode', 'loopback', 'database-url'],
  'tenant-queues': ['tenant-queues'],
  outbound: ['outbound', 'body'],
  database: [
    'database', 'schema/columns', 'schema/events', 'schema/onboardings', 'schema/service-keys',
    'schema/tenant-configs', 'schema/vault', 'schema/audit', 'schema/versions', 'statement', 'verified-identity',
    'connection', 'database-errors', 'embedded/embedded', 'embedded/access', 'migrations/migrations'
  ],
  vault: ['vault', 'masking', 'key-inspection', 'rotation/rotation', 'wrapping/wrapping'],
  meta: ['meta-graph', 'advice', 'apps/app-info'],
  'tenant-configs': ['tenant-configs', 'tenant-id'],
  'token-watch': ['token-watch'],
  'config-loader': ['config-loader', 'standalone', 'cache', 'outage-detector', 'read-limiter'],
  onboarding: ['onboarding'],
  verification: ['verification'],
  offboarding: ['offboarding'],
  'account-updates': ['account-updates'],
  events: ['events', 'signed-post'],
  audit: ['audit', 'inspection'],
  auth: ['auth', 'claims', 'refusal'],
  retention: ['retention'],
  'config-counts': ['config-counts'],
  idempotency: ['idempotency'],
  'service-keys': ['service-keys'],
  metrics: ['metrics']
}

const NO_FASTIFY = {
  group: ['fastify', 'fastify-*', '@fastify/*'],
  message: 'A *.sql.ts knows drizzle, not Fastify.'
}

const NO_SQL = {
  group: ['pg', 'drizzle-orm', 'drizzle-orm/*'],
  allowTypeImports: true,
  message: 'SQL stands in database/ and in *.sql.ts.'
}

const everyFileOf = (folder) => [`**/${folder}/*.js`, `**/${folder}/*/*.js`]

/** The imports that a folder or loose file must not have. */
function restrictions (name, isSql) {
  const line = layers.findIndex((layer) => layer.includes(name))
  const hidden = strangers.includes(name) ? strangers.filter((other) => other !== name) : []
  const unknown = [...layers.slice(line + 1).flat(), ...hidden]
  const others = Object.keys(openFiles).filter((folder) => folder !== name)
  const open = others.flatMap((folder) => openFiles[folder].map((file) => `!**/${folder}/${file}.js`))
  return [
    {
      group: unknown.flatMap((other) => looseFiles.includes(other) ? [`**/${other}.js`] : everyFileOf(other)),
      message: 'Imports point one way; see `layers` in eslint.config.js.'
    },
    {
      group: [...others.flatMap(everyFileOf), ...open],
      allowTypeImports: true,
      message: 'Other folders are entered by their door; see `openFiles` in eslint.config.js.'
    },
    {
      group: others.flatMap((folder) => [`**/${folder}/*.sql.js`, `**/${folder}/*/*.sql.js`]),
      message: 'Statements belong to their own folder.'
    },
    ...isSql ? [NO_FASTIFY] : [],
    ...isSql || name === 'database' ? [] : [NO_SQL],
    ...name === 'routes'
      ? [{ group: others.flatMap(everyFileOf), message: 'Routes reach behaviour through decorators.' }]
      : []
  ]
}

/** The core rule refuses types too, the other one values alone. */
function restrict (files, patterns) {
  const ofKind = (isAllowed) => patterns.filter(({ group = [''], allowTypeImports = false }) =>
    group.length > 0 && allowTypeImports === isAllowed)
  return {
    files,
    rules: {
      'no-restricted-imports': ['error', { patterns: ofKind(false) }],
      '@typescript-eslint/no-restricted-imports': ['error', { patterns: ofKind(true) }]
    }
  }
}

export default [
  ...neostandard({
    ts: true,
    ignores: ['dist', '.data*', '.tap', 'docs', 'drizzle/meta', 'test/client/generated.ts', '.compiled']
  }),
  {
    files: ['**/*.ts'],
    plugins: {
      '@typescript-eslint': plugins['typescript-eslint'].plugin,
      'import-x': importX,
      local: { rules: { door, functionLines } }
    },
    languageOptions: { parserOptions: { project: 'test/tsconfig.json' } },
    settings: {
      ...importX.flatConfigs.typescript.settings,
      'import-x/resolver-next': [createTypeScriptImportResolver({ project: 'test/tsconfig.json' })]
    },
    rules: {
      'max-len': ['error', 120],
      'max-lines': ['error', 250],
      // Rows and JSON keep their snake_case names, also where they are taken apart.
      camelcase: 'off',
      // A schema and the type it stands for share a name; TypeScript itself refuses real redeclarations.
      '@typescript-eslint/no-redeclare': 'off',
      '@typescript-eslint/no-floating-promises': 'error',
      '@typescript-eslint/no-explicit-any': 'error',
      '@typescript-eslint/no-non-null-assertion': 'error'
    }
  },
  {
    files: ['src/**/*.ts'],
    rules: {
      'import-x/no-cycle': 'error',
      'local/functionLines': ['error', 60],
      'local/door': ['error', { settings: 'env', meta: 'meta-graph' }],
      'n/no-process-env': 'error',
      'no-restricted-syntax': [
        'error',
        { selector: 'ExportAllDeclaration', message: 'No barrels: import from the file itself.' }
      ]
    }
  },
  { files: ['src/settings/**', 'src/cli/demo/**'], rules: { 'n/no-process-env': 'off' } },
  ...layers.flat().flatMap((name) => [
    restrict([`src/${name}.ts`, `src/${name}/**`], restrictions(name, false)),
    restrict([`src/${name}/**/*.sql.ts`], restrictions(name, true))
  ]),
  ...[['src/schemas/*.ts', '\\./'], ['src/schemas/*/*.ts', '\\.{1,2}/[^.]+\\.js$']].map(([files, others]) =>
    restrict([files], [{ regex: `^(?!@sinclair/typebox$|${others})`, message: 'Schemas know TypeBox only.' }]))
]

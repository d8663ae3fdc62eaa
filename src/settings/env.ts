import assert from 'node:assert'
import fastifyEnv from '@fastify/env'
import { Type, type Static, type TSchema } from '@sinclair/typebox'
import { Ajv } from 'ajv'
import envSchema from 'env-schema'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { quickStart } from './ajv-options.js'
import { readDotEnv } from './dot-env.js'
import { addFaults } from './faults.js'
import { formats } from './formats.js'
import { generate, generatedNames, isLocalMode } from './local-mode.js'
import { settings } from './schema.js'
import { dropEmpty, fileSetting, findMisspelledNames, readSecretFiles, type EnvSource } from './values.js'

export type { EnvSource } from './values.js'

/** In the order of `.env.example`. */
export const settingNames = Object.keys(settings)

/** The settings that hold a secret. For each of them `NAME_FILE` may name a file with the value. */
export const secretNames = selectNames(({ writeOnly }) => writeOnly === true)

const inProduction = { properties: { NODE_ENV: { const: 'production' } }, required: ['NODE_ENV'] }

const schema = Type.Object(settings, {
  dependencies: {
    FB_APP_ID: ['FB_APP_SECRET'],
    FB_APP_SECRET: ['FB_APP_ID'],
    EVENTS_WEBHOOK_URL: ['EVENTS_WEBHOOK_SECRET']
  },
  allOf: [
    requireFormat('unquoted', selectNames(({ type }) => type === 'string')),
    requireFormat('no-pem', ['JWT_SECRET']),
    requireFormat('secret-text', secretNames),
    {
      if: { properties: { AUDIT_STREAM: { not: { const: 'stdout' } } }, required: ['AUDIT_STREAM'] },
      then: { required: ['AUDIT_STREAM_SECRET'] }
    },
    {
      if: inProduction,
      then: {
        required: ['DATABASE_URL'],
        ...requireFormat('unguessable-database-url', ['DATABASE_URL', 'DATABASE_DIRECT_URL'])
      }
    },
    {
      if: { required: ['JWT_JWKS_URL'] },
      then: { if: inProduction, then: { required: ['JWT_ISSUER', 'JWT_AUDIENCE'] } },
      else: { required: ['JWT_SECRET'] }
    }
  ]
})

/** The settings after validation. */
export type Env = Static<typeof schema>

declare module 'fastify' {
  interface FastifyInstance { env: Env }
}

/** One for all reads: it compiles the schema once. */
const ajv = new Ajv({
  ...quickStart,
  allErrors: true,
  removeAdditional: true,
  useDefaults: true,
  coerceTypes: true,
  allowUnionTypes: true,
  formats
})

const options = { schema, env: false, ajv }

/** Decorates `fastify.env` and logs warnings. Throws as `readEnv` does, and when the server has an `env` of its own. */
async function env (fastify: FastifyInstance, { env: source }: { env?: EnvSource | undefined }): Promise<void> {
  const { settings, warnings } = await readSettings(source)
  await fastify.register(fastifyEnv, { ...options, confKey: 'env', data: settings })
  for (const warning of warnings) fastify.log.warn(warning)
}

export default fp(env, { name: 'env' })

/**
 * Reads and checks all settings.
 *
 * @param source settings in place of the process environment and `.env`
 * @throws one error that names every fault and shows no value; when `.env` cannot be read
 */
export async function readEnv (source?: EnvSource): Promise<Env> {
  return (await readSettings(source)).settings
}

async function readSettings (source?: EnvSource): Promise<{ settings: Env, warnings: string[] }> {
  const { given, warnings } = await readEnvironment(source)
  const { values, faults } = await readSecretFiles(given, secretNames)
  // A DATABASE_URL_FILE that cannot be read leads to another database than the embedded one.
  if (isLocalMode(values) && !faults.has('DATABASE_URL')) {
    const dataDir = String(values['DATA_DIR'] ?? settings.DATA_DIR.default)
    for (const name of generatedNames(values)) {
      if (!faults.has(name)) values[name] ??= await generate(name, dataDir)
    }
  }
  if (values['NODE_ENV'] === 'production') {
    values['OAUTH_STATE'] ??= 'required'
    values['DATABASE_WALL'] ??= 'required'
  }
  try {
    const validated = envSchema<Env>({ ...options, data: values })
    if (faults.size === 0) return { settings: validated, warnings }
  } catch (err) {
    assert(err instanceof Error)
    // Throws `err` itself when it lists no faults.
    assert('errors' in err && Array.isArray(err.errors), err)
    addFaults(faults, err.errors, settings, values)
  }
  throw new Error(['Some settings cannot be used:', ...faults.values()].join('\n  '))
}

/**
 * Reads the settings without validation: from the process environment, else from `.env` in the working directory.
 *
 * @param source settings in place of both
 * @returns the settings, trimmed, and warnings for the log
 * @throws when `.env` cannot be read; the error names the file and the line, and shows no value
 */
export async function readEnvironment (source?: EnvSource): Promise<{ given: EnvSource, warnings: string[] }> {
  if (source !== undefined) return { given: dropEmpty(source), warnings: [] }
  const assignments = await readDotEnv('.env')
  const inFile = Object.fromEntries(assignments.map(({ name, value }) => [name, value]))
  return {
    given: { ...dropEmpty(inFile), ...dropEmpty(process.env) },
    warnings: findMisspelledNames(assignments, [...settingNames, ...secretNames.map(fileSetting)])
  }
}

function selectNames (predicate: (schema: TSchema) => boolean): string[] {
  return Object.entries<TSchema>(settings).filter(([, schema]) => predicate(schema)).map(([name]) => name)
}

function requireFormat (format: string, names: string[]) {
  return { properties: Object.fromEntries(names.map((name) => [name, { type: 'string', format }])) }
}

import { randomBytes } from 'node:crypto'
import Fastify from 'fastify'
import database from '../database/database.js'
import { loggerOptions } from '../logger.js'
import outbound from '../outbound/outbound.js'
import env, { readEnv, readEnvironment, type EnvSource } from '../settings/env.js'
import tenantConfigs from '../tenant-configs/tenant-configs.js'
import vault from '../vault/vault.js'
import configLoader, { type ConfigLoader } from './config-loader.js'

interface StandaloneOptions {
  /** A postgres:// URL in place of `DATABASE_URL`. `DATABASE_DIRECT_URL`, if set, must lead to the same database. */
  databaseUrl?: string | undefined
  /** Settings in place of the process environment and `.env`. */
  env?: EnvSource | undefined
}

/**
 * Creates the loader for a worker or a script: as `fastify.configLoader`, without a server. It logs to stderr and never
 * migrates.
 *
 * @returns the loader with `close`, without which its connections keep the process running
 * @throws one error that names every unusable setting, and any failure to open the database or the key ring
 */
export async function createConfigLoader (
  { databaseUrl, env: source }: StandaloneOptions = {}
): Promise<ConfigLoader & { close: () => Promise<void> }> {
  const { given, warnings } = await readEnvironment(source)
  // A worker signs nobody in, so it needs no settings for that; migrations are the service's.
  const settings = await readEnv({
    ...given,
    ...(databaseUrl === undefined ? {} : { DATABASE_URL: databaseUrl, DATABASE_URL_FILE: undefined }),
    JWT_SECRET: randomBytes(32).toString('base64'),
    JWT_SECRET_FILE: undefined,
    JWT_JWKS_URL: undefined,
    MIGRATE_ON_START: false
  })
  if (settings.DATABASE_URL === undefined || settings.DATABASE_URL === 'embedded') {
    throw new Error('There is no database to load from: pass databaseUrl, or set DATABASE_URL, as postgres://…')
  }
  const logger = { ...loggerOptions(settings.LOG_LEVEL), stream: process.stderr }
  const bare = Fastify({ logger, pluginTimeout: 0 })
  for (const warning of warnings) bare.log.warn(warning)
  const close = async () => { await bare.close() }
  try {
    await bare.register(env, { env: settings })
    await bare.register(outbound)
    await bare.register(database)
    await bare.register(vault)
    await bare.register(tenantConfigs)
    await bare.register(configLoader)
    await bare.ready()
  } catch (err) {
    await close()
    throw err
  }
  return { ...bare.configLoader, close }
}

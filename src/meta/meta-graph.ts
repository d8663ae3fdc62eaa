import { Value } from '@sinclair/typebox/value'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import type { Vault } from '../vault/vault.js'
import { createAccountCalls } from './accounts.js'
import { createApps } from './apps/apps.js'
import { createBusinessCalls } from './businesses.js'
import { createGraphCalls, type GraphOptions } from './calls.js'
import { createOauthCalls } from './oauth.js'
import { Token } from './replies.js'
import type { MetaApp } from './types.js'

declare module 'fastify' {
  interface FastifyInstance { metaGraph: MetaGraph }
}

export type MetaGraph = ReturnType<typeof createMetaGraph>

interface MetaGraphDependencies extends GraphOptions {
  vault: Pick<Vault, 'open'>
  /** The app of tenants that store none of their own. */
  platformApp?: MetaApp | undefined
}

/** The apps at Meta, and the calls of its Graph API. Every error that a call throws is an error of ours. */
export function createMetaGraph ({ vault, platformApp, ...options }: MetaGraphDependencies) {
  const calls = createGraphCalls(options)
  const { onCall, utilizationOf, highestUtilizations, blockedApps } = calls
  return {
    ...createApps({ vault, platformApp }),
    ...createOauthCalls(calls),
    ...createAccountCalls(calls),
    ...createBusinessCalls(calls),
    onCall,
    utilizationOf,
    highestUtilizations,
    blockedApps,

    /** Whether a text can be an access token of Meta's. */
    isToken: (text: string): boolean => Value.Check(Token, text)
  }
}

/** Decorates `fastify.metaGraph`. */
async function metaGraph (fastify: FastifyInstance): Promise<void> {
  const { vault, closing, log, env, outbound } = fastify
  const { FB_APP_ID: id, FB_APP_SECRET: secret } = env
  fastify.decorate('metaGraph', createMetaGraph({
    vault,
    platformApp: id && secret ? { id, secret } : undefined,
    baseUrl: env.GRAPH_API_BASE_URL,
    version: env.GRAPH_API_VERSION,
    timeoutMs: env.GRAPH_TIMEOUT_MS,
    fetch: outbound.fetch,
    closing,
    log
  }))
}

export default fp(metaGraph, { name: 'meta-graph', dependencies: ['env', 'vault', 'closing', 'outbound'] })

import { type Static, type StaticDecode, type TSchema, Type } from '@sinclair/typebox'
import { Value } from '@sinclair/typebox/value'
import { MetaRateLimited, MetaUnavailable } from '../../errors.js'
import { maybe } from '../../schemas/fields.js'
import { mapGraphError } from '../error-map.js'
import { createHttpClient, type HttpOptions, type Reply } from '../http-client.js'
import { ErrorReply, read, Token } from '../replies.js'
import type { HttpRequest, MetaApp } from '../types.js'

/** The object whose webhooks are WhatsApp's. */
const WHATSAPP = 'whatsapp_business_account'

/** The facts that every answer of Meta tells, also a refusal. */
export interface AnswerHead {
  status: number
  /** The version that answered, such as v26.0: for an expired one Meta serves another. null: Meta does not say. */
  servedVersion: string | null
  /** Meta's clock minus ours, in milliseconds, between two bounds: the round trip blurs it. null: Meta does not say. */
  clockOffset: { min: number, max: number } | null
}

/**
 * How a question ended. `refused`: Meta refuses it, with its code. `limited`: too many calls. `down`: Meta has a fault.
 * `unknown_version`: no version has this name. `unreadable`: the answer is not one of the Graph API. `none`: no answer;
 * `reason` is a code of the system or of TLS.
 */
export type Outcome<T> =
  | { outcome: 'ok', head: AnswerHead, value: T }
  | { outcome: Refusal, head: AnswerHead, code: number | null }
  | { outcome: 'none', isTimeout: boolean, reason: string }

type Refusal = 'refused' | 'limited' | 'down' | 'unknown_version' | 'unreadable'

/** The webhook of an app for WhatsApp: all its accounts, unless a callback of an account or a number overrides it. */
export interface AppWebhook { callback_url: string, is_active: boolean, fields: string[] }

/** The codes of the system, of TLS and of fetch, such as ECONNREFUSED. */
const REASON = /^[A-Z][A-Z0-9_]{1,60}$/

const AppReply = Type.Object({ id: Type.Unknown() })
const SubscriptionsReply = Type.Object({ data: Type.Array(Type.Unknown()) })
const Subscription = Type.Object({
  object: Type.Literal(WHATSAPP),
  callback_url: maybe(Type.String()),
  active: Type.Optional(Type.Unknown()),
  fields: Type.Optional(Type.Unknown())
})
const Field = Type.Object({ name: Type.String() })

export type AppInfo = ReturnType<typeof createAppInfo>

/** Asks Meta about an app, for a person who sets it up. A question is asked once, and logs nothing. */
export function createAppInfo ({ timeoutMs, ...options }: HttpOptions & { timeoutMs: number }) {
  const send = createHttpClient(options)

  return {
    /** Asks without a token, which Meta refuses: the refusal shows that it can be reached. */
    probe: async (): Promise<Outcome<unknown>> => await ask({ path: 'me' }, undefined, Type.Object({})),

    /**
     * Asks for the app with its own token, which Meta refuses if id and secret do not belong together.
     * Source: developers.facebook.com/docs/graph-api/reference/application
     */
    async confirmApp (app: MetaApp): Promise<Outcome<{ id: string }>> {
      const answer = await ask({ path: app.id, query: { fields: 'id' } }, app, AppReply)
      return answer.outcome === 'ok' ? { ...answer, value: { id: String(answer.value.id) } } : answer
    },

    /**
     * Finds the webhook of the app for WhatsApp; null without one.
     * Source: developers.facebook.com/docs/graph-api/reference/app/subscriptions
     */
    async webhookOf (app: MetaApp): Promise<Outcome<AppWebhook | null>> {
      const answer = await ask({ path: `${app.id}/subscriptions` }, app, SubscriptionsReply)
      return answer.outcome === 'ok' ? { ...answer, value: findWebhook(answer.value.data) } : answer
    }
  }

  async function ask<T extends TSchema> (
    request: Omit<HttpRequest, 'method' | 'token'>, app: MetaApp | undefined, schema: T
  ): Promise<Outcome<Static<T>>> {
    const signal = AbortSignal.timeout(timeoutMs)
    const sentAt = Date.now()
    const token = app && { token: tokenOf(app) }
    const reply = await send({ method: 'GET', ...request, ...token }, app, signal)
    if ('wasSent' in reply) {
      const reason = String(reply.reason)
      return { outcome: 'none', isTimeout: signal.aborted, reason: REASON.test(reason) ? reason : 'unknown reason' }
    }
    const head = headOf(reply, sentAt)
    if (reply.isOk && Value.Check(schema, reply.body)) return { outcome: 'ok', head, value: reply.body }
    const error = read(ErrorReply, reply.body)?.error
    return { outcome: outcomeOf(reply.status, error), head, code: error?.code ?? null }
  }
}

/** Whether an id and a secret can be those of an app: others do not fit into a path and a header. */
export function isUsableApp (app: MetaApp): boolean {
  return /^\d{1,32}$/.test(app.id) && Value.Check(Token, tokenOf(app))
}

/** The app's own token. Source: developers.facebook.com/documentation/facebook-login/guides/access-tokens */
function tokenOf ({ id, secret }: MetaApp): string {
  return `${id}|${secret}`
}

function headOf ({ status, headers }: Reply, sentAt: number): AnswerHead {
  const version = headers.get('facebook-api-version') ?? ''
  const date = Date.parse(headers.get('date') ?? '')
  return {
    status,
    servedVersion: /^v\d{1,3}\.\d{1,3}$/.test(version) ? version : null,
    // The header has whole seconds: Meta's clock stood within the second that follows.
    clockOffset: Number.isNaN(date) ? null : { min: date - Date.now(), max: date + 1000 - sentAt }
  }
}

function outcomeOf (status: number, error: StaticDecode<typeof ErrorReply>['error'] | undefined): Refusal {
  const { throws } = mapGraphError('app', status, error)
  if (throws === MetaRateLimited) return 'limited'
  if (throws === MetaUnavailable) return 'down'
  if (error === undefined) return 'unreadable'
  return error.code === 2500 && /unknown path/i.test(String(error.message)) ? 'unknown_version' : 'refused'
}

function findWebhook (subscriptions: unknown[]): AppWebhook | null {
  const found = subscriptions.find((subscription) => Value.Check(Subscription, subscription))
  if (found === undefined) return null
  const fields: unknown[] = Array.isArray(found.fields) ? found.fields : []
  return {
    callback_url: found.callback_url ?? '',
    is_active: String(found.active) === 'true',
    // Formerly a field was its name alone.
    fields: fields.flatMap((field) => typeof field === 'string' ? field : Value.Check(Field, field) ? field.name : [])
  }
}

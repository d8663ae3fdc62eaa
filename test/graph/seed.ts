import { Type } from '@sinclair/typebox'
import { validate } from './control/validate.js'
import type { GraphState } from './state.js'

const only = { additionalProperties: false }
const Id = Type.String({ minLength: 1 })
const Override = Type.Object({ url: Type.String(), verify_token: Type.String() }, only)

const AppJson = Type.Object({
  app_id: Type.Optional(Id),
  app_secret: Type.Optional(Type.String()),
  app_token: Type.Optional(Type.String()),
  redirect_uris: Type.Optional(Type.Array(Type.String())),
  require_proof: Type.Optional(Type.Boolean()),
  callback_url: Type.Optional(Type.Union([Type.String(), Type.Null()])),
  webhook_active: Type.Optional(Type.Boolean()),
  webhook_fields: Type.Optional(Type.Array(Type.String()))
}, only)

// Any further member is a field that Graph shows.
const PhoneJson = Type.Object({
  id: Id,
  pin: Type.Optional(Type.Union([Type.String({ pattern: '^\\d{6}$' }), Type.Null()])),
  registered: Type.Optional(Type.Boolean()),
  verified: Type.Optional(Type.Boolean()),
  is_on_biz_app: Type.Optional(Type.Boolean()),
  attempts: Type.Optional(Type.Array(Type.Integer())),
  override: Type.Optional(Override)
})

const WabaJson = Type.Object({
  id: Type.Optional(Id),
  app_ids: Type.Optional(Type.Array(Id)),
  phones: Type.Optional(Type.Array(PhoneJson)),
  subscriptions: Type.Optional(Type.Record(Type.String(), Type.Object({ override: Type.Optional(Override) }, only)))
})

const grant = {
  app_id: Type.Optional(Id),
  waba_ids: Type.Optional(Type.Union([Type.Array(Id), Type.Null()])),
  scopes: Type.Optional(Type.Array(Type.String())),
  expires_in: Type.Optional(Type.Integer()),
  data_access_expires_in: Type.Optional(Type.Integer()),
  type: Type.Optional(Type.Union([Type.Literal('SYSTEM_USER'), Type.Literal('USER')])),
  business_id: Type.Optional(Id),
  business_ids: Type.Optional(Type.Array(Id)),
  extendable: Type.Optional(Type.Boolean())
}

const CodeJson = Type.Object({
  ...grant,
  code: Type.Optional(Type.String()),
  redirect_uri: Type.Optional(Type.Union([Type.String(), Type.Null()])),
  age: Type.Optional(Type.Integer())
}, only)

const TokenJson = Type.Object({ ...grant, access_token: Type.Optional(Type.String()) }, only)

const BusinessJson = Type.Object({
  id: Id,
  owned_waba_ids: Type.Optional(Type.Array(Id)),
  client_waba_ids: Type.Optional(Type.Array(Id))
}, only)

const SeedJson = Type.Object({
  apps: Type.Optional(Type.Array(AppJson)),
  businesses: Type.Optional(Type.Array(BusinessJson)),
  wabas: Type.Optional(Type.Array(WabaJson)),
  codes: Type.Optional(Type.Array(CodeJson)),
  tokens: Type.Optional(Type.Array(TokenJson))
}, only)

/**
 * Adds objects from JSON: lists of `apps`, `businesses`, `wabas`, `codes` and `tokens`, with the
 * members that the methods of GraphState accept. An existing id is replaced. Without `app_id` a code or token belongs
 * to the first app; without `app_ids` all apps see a WABA.
 * @throws an error with the path of the invalid member
 */
export function addSeed (state: GraphState, json: unknown): void {
  const { apps = [], businesses = [], wabas = [], codes = [], tokens = [] } = validate(SeedJson, json)
  for (const app of apps) state.addApp(app)
  for (const business of businesses) state.addBusiness(business)
  for (const { app_ids = [...state.apps.keys()], ...waba } of wabas) state.addWaba({ ...waba, app_ids })
  for (const code of codes) issueCode(state, code)
  for (const token of tokens) issueToken(state, token)
}

/** Issues the code that JSON describes. */
export function issueCode (state: GraphState, json: unknown): string {
  return state.issueCode({ app_id: firstAppId(state), ...validate(CodeJson, json) })
}

/** Issues the token that JSON describes, with `access_token` as its text. */
export function issueToken (state: GraphState, json: unknown): string {
  const { access_token: text, ...grant } = validate(TokenJson, json)
  return state.issueToken({ app_id: firstAppId(state), ...grant }, text)
}

/** The id of the first app, which is the default. */
export function firstAppId (state: GraphState): string {
  const [first] = state.apps.keys()
  if (first === undefined) throw new Error('there is no app')
  return first
}

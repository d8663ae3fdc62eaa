import { isUsableApp, type AppInfo, type Outcome } from '../../meta/apps/app-info.js'
import type { MetaApp } from '../../meta/types.js'
import type { Env } from '../../settings/env.js'
import { failed, notChecked, ok, skippedFor, type Finding, type Findings } from './checks.js'
import { checkClock, checkMeta, checkVersion, describeOutcome } from './meta.js'
import { judgeWebhook } from './webhook.js'

type General = Pick<Findings, 'meta' | 'clock' | 'api_version'>
type OfApp = Pick<Findings, 'app' | 'webhook'>

const BASIC = 'App Dashboard > App settings > Basic'

/** The finding of each check of the app where there is none. */
export const NO_APP = notChecked('FB_APP_ID is not set: each tenant brings its own app.')

/** The platform's app; null without one. */
export function platformApp ({ FB_APP_ID: id, FB_APP_SECRET: secret }: Env): MetaApp | null {
  return id !== undefined && secret !== undefined ? { id, secret } : null
}

/** Makes the checks that ask Meta, with two calls at most. */
export async function checkAtMeta (env: Env, info: AppInfo): Promise<General & OfApp> {
  const app = platformApp(env)
  if (app === null) return { ...checkGeneral(env, await info.probe()), app: NO_APP, webhook: NO_APP }
  if (!isUsableApp(app)) {
    const unusable = failed(
      'FB_APP_ID is not an app id, which is digits only, or FB_APP_SECRET has characters that no app secret has.',
      `Copy both from ${BASIC}.`
    )
    return { ...checkGeneral(env, await info.probe()), app: unusable, webhook: skippedFor('app') }
  }
  const answer = await info.confirmApp(app)
  const general = checkGeneral(env, answer)
  if (general.meta.status === 'failed') return { ...general, app: skippedFor('meta'), webhook: skippedFor('meta') }
  if (answer.outcome === 'unknown_version') {
    return { ...general, app: skippedFor('api_version'), webhook: skippedFor('api_version') }
  }
  const finding = judgeApp(app.id, answer)
  const webhook = finding.status === 'ok' ? judgeWebhook(env, await info.webhookOf(app)) : skippedFor('app')
  return { ...general, app: finding, webhook }
}

/** The checks that any answer allows. */
function checkGeneral (env: Env, answer: Outcome<unknown>): General {
  const meta = checkMeta(env, answer)
  if (meta.status === 'failed' || answer.outcome === 'none') {
    return { meta, clock: skippedFor('meta'), api_version: skippedFor('meta') }
  }
  return { meta, clock: checkClock(answer.head), api_version: checkVersion(env, answer.outcome, answer.head) }
}

function judgeApp (id: string, answer: Outcome<{ id: string }>): Finding {
  if (answer.outcome === 'ok' && answer.value.id === id) return ok(`Meta accepts FB_APP_SECRET for the app ${id}.`)
  const told = describeOutcome(answer)
  if (answer.outcome === 'limited') {
    return failed(`Meta limits the calls of the app ${id} at present (${told}).`, 'Run this again in an hour.')
  }
  const code = answer.outcome === 'refused' ? answer.code : null
  if (code === 101) {
    return failed(`Meta knows no app ${id} (${told}).`, `Copy the app id from ${BASIC} to FB_APP_ID.`)
  }
  if (code === 190) {
    return failed(
      `Meta does not accept FB_APP_SECRET for the app ${id} (${told}): it is mistyped, was reset, or is another app's.`,
      `Copy the app secret from ${BASIC} to FB_APP_SECRET.`
    )
  }
  return failed(
    `Meta refuses the app ${id} (${told}).`,
    `Compare FB_APP_ID and FB_APP_SECRET with ${BASIC}, and see in the dashboard whether Meta restricts the app.`
  )
}

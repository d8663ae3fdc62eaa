import type { AppWebhook, Outcome } from '../../meta/apps/app-info.js'
import { replaceUnprintable } from '../../logger.js'
import type { Env } from '../../settings/env.js'
import { failed, ok, warning, type Finding } from './checks.js'
import { describeOutcome } from './meta.js'

const PATH = '/api/v1/tenant/onboard/account-update'
const FIELD = 'account_update'
const MAX_SHOWN = 200

/** Where the webhook of the app is set up. */
const CONFIGURATION = 'App Dashboard > WhatsApp > Configuration'

/** Judges the webhook of the app, which Meta needs to tell of accounts that leave. */
export function judgeWebhook ({ PUBLIC_URL }: Env, answer: Outcome<AppWebhook | null>): Finding {
  if (answer.outcome !== 'ok') {
    return failed(`The webhooks of the app cannot be read (${describeOutcome(answer)}).`, 'Run this again later.')
  }
  const expected = PUBLIC_URL === undefined ? null : webhookUrl(PUBLIC_URL)
  const shownUrl = expected ?? `https://<your host>${PATH}`
  const { value: webhook } = answer
  if (webhook === null) {
    return failed(
      'The app has no webhook for whatsapp_business_account.',
      `${CONFIGURATION} > Webhook: enter the callback URL ${shownUrl} and the value of WEBHOOK_VERIFY_TOKEN; ` +
        `then subscribe to the webhook field ${FIELD}.`
    )
  }
  const faults = faultsOf(webhook, expected)
  if (faults.length > 0) {
    return failed(faults.map(({ detail }) => detail).join(' '), faults.map(({ fix }) => fix).join(' '))
  }
  if (expected === null) {
    return warning(
      `The webhook is active and has the field ${FIELD}. Its callback URL was not compared: PUBLIC_URL is not set.`,
      'Set PUBLIC_URL to the URL that this service is reached at.'
    )
  }
  return ok(`The webhook is active, has the field ${FIELD}, and leads to ${expected}.`)
}

/** Checks that Meta's verification of the webhook can succeed. */
export function checkVerifyToken ({ WEBHOOK_VERIFY_TOKEN }: Env): Finding {
  return WEBHOOK_VERIFY_TOKEN !== undefined
    ? ok('WEBHOOK_VERIFY_TOKEN is set.')
    : warning(
      'WEBHOOK_VERIFY_TOKEN is not set: Meta cannot verify the webhook here.',
      `Set WEBHOOK_VERIFY_TOKEN, and enter it under ${CONFIGURATION} > Webhook > Verify token.`
    )
}

function faultsOf (webhook: AppWebhook, expected: string | null): Array<{ detail: string, fix: string }> {
  const faults = []
  if (!webhook.is_active) {
    faults.push({
      detail: 'The webhook is not active.',
      fix: `${CONFIGURATION} > Webhook: verify and save the callback URL again.`
    })
  }
  if (!webhook.fields.includes(FIELD)) {
    faults.push({
      detail: `The webhook has no field ${FIELD}: nobody notices when a customer leaves.`,
      fix: `${CONFIGURATION} > Webhook fields: subscribe to ${FIELD}.`
    })
  }
  const found = withoutQuery(webhook.callback_url)
  if (expected !== null && found !== expected) {
    faults.push({
      detail: `The webhook leads to ${found ?? 'no URL'}, not to ${expected}.`,
      fix: `${CONFIGURATION} > Webhook: enter ${expected}, or correct PUBLIC_URL. ` +
        'If your own endpoint there forwards account updates, leave PUBLIC_URL unset.'
    })
  }
  return faults
}

/** The URL of our webhook. `PUBLIC_URL` may have a path and end with a slash. */
function webhookUrl (publicUrl: string): string {
  const { origin, pathname } = new URL(publicUrl)
  return `${origin}${pathname.replace(/\/+$/, '')}${PATH}`
}

/** The URL without user, query and fragment, any of which may hold a secret; null for what is no web URL. */
function withoutQuery (text: string): string | null {
  if (!URL.canParse(text)) return null
  const { protocol, origin, pathname } = new URL(text)
  return /^https?:$/.test(protocol) ? replaceUnprintable(`${origin}${pathname}`).slice(0, MAX_SHOWN) : null
}

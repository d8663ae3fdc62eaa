import type { AnswerHead, Outcome } from '../../meta/apps/app-info.js'
import type { Env } from '../../settings/env.js'
import { failed, ok, warning, type Finding } from './checks.js'

const MAX_SKEW_MS = 30_000
const FIREWALL = 'Let this machine connect to that address, and see that GRAPH_API_BASE_URL is right.'

/** Checks that Meta can be reached: any answer of the Graph API shows it. */
export function checkMeta ({ GRAPH_API_BASE_URL: url, GRAPH_TIMEOUT_MS }: Env, answer: Outcome<unknown>): Finding {
  switch (answer.outcome) {
    case 'none':
      return answer.isTimeout
        ? failed(`${url} did not answer within ${GRAPH_TIMEOUT_MS} ms.`, FIREWALL)
        : failed(`${url} cannot be reached (${answer.reason}).`, FIREWALL)
    case 'unreadable':
      return failed(`${url} answers, but not as the Graph API does (HTTP ${answer.head.status}).`, FIREWALL)
    case 'down':
      return failed(
        `${url} answers with a fault of its own (${describeOutcome(answer)}).`,
        'Try again later; metastatus.com shows the outages of Meta.'
      )
    default:
      return ok(`The Graph API answers at ${url}.`)
  }
}

/** An answer in numbers, without Meta's words. */
export function describeOutcome (answer: Outcome<unknown>): string {
  if (answer.outcome === 'none') return answer.isTimeout ? 'no answer in time' : answer.reason
  const status = `HTTP ${answer.head.status}`
  return answer.outcome === 'ok' || answer.code === null ? status : `${status}, code ${answer.code}`
}

/** Compares our clock with Meta's. The round trip counts in favour of ours. */
export function checkClock ({ clockOffset }: AnswerHead): Finding {
  const fix = 'Synchronise the clock of this machine with NTP.'
  if (clockOffset === null) return warning('The answer has no date to compare the clock with.', fix)
  const { min, max } = clockOffset
  // The smallest difference within the bounds.
  const skew = Math.max(min, Math.min(max, 0))
  if (Math.abs(skew) <= MAX_SKEW_MS) return ok('The clock of this machine is within 30 s of Meta\'s.')
  const seconds = Math.round(Math.abs(skew) / 1000)
  return failed(`The clock of this machine is ${seconds} s ${skew > 0 ? 'behind' : 'ahead of'} Meta's.`, fix)
}

/**
 * Checks that Meta serves the version that we ask for. It serves another one in place of an expired version, or of one
 * that is older than the app may use.
 * Source: developers.facebook.com/docs/graph-api/guides/versioning
 */
export function checkVersion (
  { GRAPH_API_VERSION: asked }: Env, outcome: Outcome<unknown>['outcome'], { servedVersion: served }: AnswerHead
): Finding {
  const place = 'App Dashboard > App settings > Advanced > Upgrade API version'
  if (outcome === 'unknown_version') {
    return failed(
      `Meta knows no version ${asked}.`,
      `Set GRAPH_API_VERSION to a version that ${place} lists.`
    )
  }
  if (served === null) {
    return warning(`Meta does not say which version it serves for ${asked}.`, `Compare it with ${place}.`)
  }
  if (served === asked) return ok(`Meta serves ${asked}.`)
  return failed(
    `Meta serves ${served} in place of ${asked}, which has expired or is too old for the app.`,
    `Set GRAPH_API_VERSION=${served}, or a later version; ${place} lists them.`
  )
}

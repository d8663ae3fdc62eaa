import type { FastifyError } from '@fastify/error'

const LOGIN = 'start the Meta login again'
const RESUME = 'POST /onboard/whatsapp-client/resume'

/**
 * Why a token is no longer good (code 190), by subcode.
 * Source: developers.facebook.com/docs/graph-api/guides/error-handling
 */
export const tokenAdvice: Record<number, string> = {
  458: `The customer took the access away from the app: ${LOGIN} and grant it there.`,
  459: `Meta holds the user's account back: have the user log in at www.facebook.com and do what it says there, then ${LOGIN}.`,
  460: `The user changed the password, or Meta ended the session for safety: ${LOGIN}.`,
  463: `The access token has expired: ${LOGIN}.`,
  464: `The user has not confirmed the Facebook account: have it confirmed at www.facebook.com, then ${LOGIN}.`,
  467: `The session of the access token has ended, as when the user logs out: ${LOGIN}.`,
  492: `The user lost the role that the access token stands on: have it given back, then ${LOGIN}.`
}

/**
 * Why a phone number is not registered, by code.
 * Source: developers.facebook.com/documentation/business-messaging/whatsapp/support/error-codes
 */
export const registerAdvice: Record<number, string> = {
  100: `Meta does not take this pin: send one of exactly six digits with ${RESUME}.`,
  133000: `An earlier deregistration of the number is unfinished: deregister it again at Meta, then send the pin with ${RESUME}.`,
  133005: `The pin is not the two-step verification PIN of the number: send the right one with ${RESUME}, or reset it in WhatsApp Manager first.`,
  133006: `The number must be verified again: verify it in WhatsApp Manager (by SMS or voice call), then send the pin with ${RESUME}.`,
  133008: `The PIN was guessed wrong too often: wait as long as WhatsApp Manager says, then send the right one with ${RESUME}.`,
  133009: `The PIN was tried again too fast: wait some minutes, then send the right one with ${RESUME}.`,
  133010: `The number is not registered with the WhatsApp Business Platform: add and verify it in WhatsApp Manager, then send the pin with ${RESUME}.`,
  133015: `The number was deleted a short while ago and Meta has not finished that: wait five minutes or more, then send the pin with ${RESUME}.`,
  133016: `The number was registered or deregistered too often (10 times in 72 hours): wait until 72 hours have passed, then send the pin with ${RESUME}.`
}

/** Other cases of Meta's that say more than the error they become. */
export const advice = {
  permission: `The app or its token lacks a permission: ${LOGIN} and grant all that it asks for; if it stays so, the app itself needs the permission at Meta.`,
  policyBlock: 'Meta blocks this for a breach of its policies: see Account Quality in Meta Business Suite, and ask for a review there.',
  accountLocked: 'Meta locked the WhatsApp Business Account: see Account Quality in Meta Business Suite, and ask for a review there.',
  newCode: `Meta refuses the code for a passing or unknown reason: ${LOGIN} to get a new one.`,
  appWebhook: `The app itself has no webhook for whatsapp_business_account yet: set its callback URL in the app's dashboard at Meta, then go on with ${RESUME}.`,
  pinNeeded: `The pin is not stored: send it again with ${RESUME}.`,
  noNumber: `The account has no phone number to register yet: add one in WhatsApp Manager, then send the pin with ${RESUME}.`,
  callbackParameter: `Meta does not take callback_url or verify_token: store a public https URL of at most 200 characters with PUT /config, then go on with ${RESUME}.`
}

const all = new Set([tokenAdvice, registerAdvice, advice].flatMap((table) => Object.values(table)))

/** The advice an error carries as its member `advice`; undefined when it carries none of ours. */
export function adviceIn (err: object): string | undefined {
  return 'advice' in err && typeof err.advice === 'string' && all.has(err.advice) ? err.advice : undefined
}

/** What to do about an error: Meta's own case where there is one, else the error's message. */
export function adviceFor (err: FastifyError): string {
  return adviceIn(err) ?? err.message
}

import type { FastifyError } from '@fastify/error'

const LOGIN = 'Start the Meta login again'
const RESUME = 'POST /onboard/whatsapp-client/resume'

/**
 * Why a token is no longer good (code 190), by subcode.
 * Source: developers.facebook.com/docs/graph-api/guides/error-handling
 */
export const tokenAdvice: Record<number, string> = {
  458: `The customer took the access away from the app. ${LOGIN} and grant it there.`,
  459: 'Meta holds the user\'s account back until the user logs in at www.facebook.com and does what it says there. ' +
    `${LOGIN} after that.`,
  460: `The user changed the password, or Meta ended the session for safety. ${LOGIN}.`,
  463: `The access token has expired. ${LOGIN}.`,
  464: `The user has not confirmed the Facebook account, which is done at www.facebook.com. ${LOGIN} after that.`,
  467: `The session of the access token has ended, as when the user logs out. ${LOGIN}.`,
  492: `The user lost the role that the access token stands on, and needs it back. ${LOGIN} after that.`,
  // Not on that page, but in answers: github.com/MrSwitch/hello.js/issues/548
  493: `The session was idle for more than 90 days. ${LOGIN}.`
}

/**
 * Why a phone number is not registered, by code.
 * Source: developers.facebook.com/documentation/business-messaging/whatsapp/support/error-codes
 */
export const registerAdvice: Record<number, string> = {
  100: 'Meta refuses a parameter of the registration, and its code does not tell which. ' +
    `Check the number in WhatsApp Manager, then send the pin with ${RESUME}.`,
  133000: 'An earlier deregistration of the number is unfinished, and must be made again at Meta. ' +
    `Send the pin with ${RESUME} after that.`,
  133005: 'The pin is not the two-step verification PIN of the number. ' +
    `Send the right one with ${RESUME}, or reset it in WhatsApp Manager first.`,
  133006: 'The number must be verified again, which is done in WhatsApp Manager. ' +
    `Send the pin with ${RESUME} after that.`,
  133008: 'The PIN was guessed wrong too often, and Meta takes none for now. ' +
    `Send the right one with ${RESUME} after some time.`,
  133009: `The PIN was tried again too fast. Send the right one with ${RESUME} after some time.`,
  133010: 'Meta says that the number is not registered. ' +
    `Check that it is added and verified in WhatsApp Manager, then send the pin with ${RESUME}.`,
  133015: 'The number was deleted a short while ago, and Meta has not finished that. ' +
    `Send the pin with ${RESUME} some minutes later.`,
  133016: 'The number was registered or deregistered too often: Meta allows 10 times in 72 hours. ' +
    `Send the pin with ${RESUME} when 72 hours have passed without a try.`
}

/** Further cases that need more advice than the message of their error. */
export const advice = {
  permission: `The app or its token lacks a permission. ${LOGIN} and grant all that it asks for; ` +
    'if it stays so, the app itself needs the permission at Meta.',
  policyBlock: 'Meta blocks this for a breach of its policies. ' +
    `Check Account Quality in Meta Business Suite, ask for a review there, then go on with ${RESUME}.`,
  accountLocked: 'Meta locked the WhatsApp Business Account. ' +
    `Check Account Quality in Meta Business Suite, ask for a review there, then go on with ${RESUME}.`,
  newCode: `Meta refuses the code for a passing or unknown reason. ${LOGIN} to get a new one.`,
  appWebhook: 'The app itself has no webhook for whatsapp_business_account, and needs one before any override. ' +
    `Store its callback URL in the app's dashboard at Meta, then go on with ${RESUME}.`,
  pinFormat: `Meta does not take the form of the pin. Send one of exactly six digits with ${RESUME}.`,
  pinNeeded: `The pin is not stored. Send it again with ${RESUME}, or null to go on without a registration.`,
  noNumber: 'The account has no phone number to register yet, and gets one in WhatsApp Manager. ' +
    `Send the pin with ${RESUME} after that.`,
  callbackParameter: 'Meta does not take callback_url or verify_token. ' +
    `Store a public https URL of at most 200 characters with PUT /config, then go on with ${RESUME}.`
}

const all = new Set([tokenAdvice, registerAdvice, advice].flatMap((table) => Object.values(table)))

/** Returns the member `advice` of an error if it is one of this file; else undefined. */
export function adviceIn (err: object): string | undefined {
  return 'advice' in err && typeof err.advice === 'string' && all.has(err.advice) ? err.advice : undefined
}

/** Returns the seconds until Meta takes calls again, if the error has them. */
export function retryAfterIn (err: object): number | undefined {
  return 'retry_after' in err && typeof err.retry_after === 'number' ? err.retry_after : undefined
}

/** Returns the advice of an error, else its message. */
export function adviceFor (err: FastifyError): string {
  return adviceIn(err) ?? err.message
}

import { Type } from '@sinclair/typebox'
import { Value } from '@sinclair/typebox/value'
import type { OnboardingRow } from '../../database/schema/onboardings.js'
import {
  graphErrorDetails, MetaAccountRequired, MetaNumberChanged, MetaPermissionMissing, MetaPhoneChoiceRequired,
  MetaPhoneNotInWaba, MetaWabaNotAccessible, withGraphDetails
} from '../../errors.js'
import type { PhoneNumber } from '../../meta/accounts.js'
import { adviceIn } from '../../meta/advice.js'
import type { MetaGraph } from '../../meta/meta-graph.js'
import { stepOf } from '../record.js'
import type { Access } from './callback.js'

// Bounds the calls of a discovery. A tenant with more accounts sends the waba_id.
const MAX_DISCOVERED = 20

const Ids = Type.Array(Type.String())

/** An account that a token sees, and its numbers. */
export interface VisibleAccount { waba_id: string, phones: PhoneNumber[] }

/** An account and its chosen number; null for an account without numbers. */
export interface ChosenNumber { waba_id: string, phone: PhoneNumber | null }

interface AccountDependencies {
  metaGraph: Pick<MetaGraph, 'listPhoneNumbers' | 'listBusinessAccounts'>
  /** Milliseconds that all calls of a discovery may take together. */
  timeoutMs: number
}

/**
 * Returns `accountsOf`, which lists the accounts that an onboarding may choose from: the one that the request names,
 * else all that the token sees.
 *
 * @throws by `accountsOf`: the errors of `listPhoneNumbers`; `META_ACCOUNT_REQUIRED` when no account is named and none
 * is found
 */
export function createAccountSearch ({ metaGraph, timeoutMs }: AccountDependencies) {
  return async function accountsOf (
    access: Access, record: OnboardingRow, present: string | null
  ): Promise<VisibleAccount[]> {
    const { waba_id: named } = record
    if (named === null) return await discover(access, record)
    const account = { waba_id: named, phones: await metaGraph.listPhoneNumbers(access.app, access.token, named) }
    const isDeliberate = record.chosen_waba_id !== null || record.chosen_phone_number_id !== null
    if (present === null || isDeliberate || has(account, present)) return [account]
    // The present number may be on another of the granted accounts.
    const others = await discover(access, record).catch((err: unknown) => {
      if (err instanceof MetaAccountRequired || err instanceof MetaPermissionMissing) return []
      throw err
    })
    return [account, ...others.filter((other) => has(other, present))]
  }

  /**
   * Returns the accounts that the token names and sees. For a token without names they are those of its businesses.
   * Source: developers.facebook.com/docs/graph-api/reference/debug_token
   */
  async function discover ({ app, token }: Access, record: OnboardingRow): Promise<VisibleAccount[]> {
    const signal = AbortSignal.timeout(timeoutMs)
    const granted = stepOf(record, 'inspect').evidence?.['waba_ids']
    const named = Value.Check(Ids, granted) ? granted : []
    const accounts: VisibleAccount[] = []
    let refusal: Error = new MetaAccountRequired()
    const note = (err: unknown) => { refusal = refusalOf(err, named.length > 0) }
    try {
      const ids = named.length > 0 ? named : await metaGraph.listBusinessAccounts(app, token, signal)
      for (const waba_id of ids.slice(0, MAX_DISCOVERED)) {
        const phones = await metaGraph.listPhoneNumbers(app, token, waba_id, signal).catch(note)
        if (phones !== undefined) accounts.push({ waba_id, phones })
      }
    } catch (err) {
      note(err)
    }
    if (accounts.length === 0) throw refusal
    return accounts
  }
}

/**
 * Returns the error to throw when no account is found after this refusal. Nobody sent the refused id, so the error does
 * not speak of it. Throws an error that is no refusal.
 *
 * @param isNamed whether the token names its accounts: only a new login grants what is missing for one of them
 */
function refusalOf (err: unknown, isNamed: boolean): Error {
  if (!(err instanceof MetaWabaNotAccessible || err instanceof MetaPermissionMissing)) throw err
  const isTold = err instanceof MetaPermissionMissing || adviceIn(err) !== undefined
  return isNamed && isTold ? err : withGraphDetails(new MetaAccountRequired(), graphErrorDetails(err))
}

const has = ({ phones }: VisibleAccount, phoneNumberId: string) => phones.some(({ id }) => id === phoneNumberId)

/** The numbers that decide a choice. */
export interface Wishes {
  /** The number that the request names. */
  wanted: string | null
  /** The number that a resumption names, which may replace the present one. */
  chosen: string | null
  /** The verified number that the tenant has. */
  present: string | null
}

/**
 * Returns the present number of the tenant, else the wanted one, else the only one; the only account when no account
 * has a number.
 *
 * @throws `META_PHONE_NOT_IN_WABA`; `META_NUMBER_CHANGED` when the tenant would get another number than it has;
 * `META_PHONE_CHOICE_REQUIRED`; `META_ACCOUNT_REQUIRED`
 */
export function chooseNumber (accounts: VisibleAccount[], { wanted, chosen, present }: Wishes): ChosenNumber {
  const numbers = accounts.flatMap(({ waba_id, phones }) => phones.map((phone) => ({ waba_id, phone })))
  const find = (id: string | null) => numbers.find(({ phone }) => phone.id === id)
  const named = find(wanted)
  const isDeliberate = chosen !== null && wanted === chosen
  if (present !== null && !isDeliberate) {
    const own = find(present)
    if (own !== undefined && (wanted === null || wanted === present)) return own
    if (wanted !== null && wanted !== present && named === undefined) throw new MetaPhoneNotInWaba()
    throw withChoices(new MetaNumberChanged(), numbers)
  }
  if (named !== undefined) return named
  if (wanted !== null) throw new MetaPhoneNotInWaba()
  const all: ChosenNumber[] = numbers.length > 0 ? numbers : accounts.map(({ waba_id }) => ({ waba_id, phone: null }))
  const [only, ...others] = all
  if (only !== undefined && others.length === 0) return only
  throw numbers.length === 0 ? new MetaAccountRequired() : withChoices(new MetaPhoneChoiceRequired(), numbers)
}

function withChoices (error: Error, numbers: Array<{ phone: PhoneNumber }>): Error {
  return Object.assign(error, {
    phone_numbers: numbers.map(({ phone: { id, display_phone_number, verified_name } }) =>
      ({ id, display_phone_number, verified_name }))
  })
}

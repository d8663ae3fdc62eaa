import { mock } from 'node:test'
import type { Test } from 'tap'
import { type Answer, app, calls, json, meta, thrownBy } from '../wire.js'

/** The account that the calls are about. */
export const WABA = '102290129340398'

export const MINUTE = 60_000
export const NOW = Date.parse('2026-11-23T12:00:00Z')

/** Stops the clock at `NOW`; `advance` moves it on. */
export function stopClock (t: Test) {
  mock.timers.enable({ apis: ['Date'], now: NOW })
  t.teardown(() => { mock.timers.reset() })
  return { advance: (ms: number) => { mock.timers.setTime(Date.now() + ms) } }
}

/** A client, and a function that makes a call and chooses its answer. */
export async function client (t: Test) {
  let next: Answer = json(200, { success: true })
  const { graph } = await meta(t, (res) => { next(res) })
  return {
    usage: (subject?: string) => graph.utilizationOf(app.id, subject),
    usageOf: (id: string) => graph.utilizationOf(id),
    /** Makes a call that receives this answer. */
    async call (answer: Answer, name: keyof typeof calls = 'subscribe') {
      next = answer
      await thrownBy(Promise.resolve(calls[name](graph)))
    }
  }
}

interface Usage { ofApp?: unknown, ofAccounts?: unknown }

/** The headers in which Meta reports the usage of an app and of accounts. */
export const headers = ({ ofApp, ofAccounts }: Usage) => ({
  ...(ofApp === undefined ? {} : { 'x-app-usage': JSON.stringify(ofApp) }),
  ...(ofAccounts === undefined ? {} : { 'x-business-use-case-usage': JSON.stringify(ofAccounts) })
})

/** A success with these headers. */
export const fine = (usage: Usage) => json(200, { success: true }, headers(usage))

/** The usage of an account far from its limits, with these changes. */
export const account = (more: object) => ({
  type: 'whatsapp_business_management',
  call_count: 3,
  total_cputime: 1,
  total_time: 1,
  estimated_time_to_regain_access: 0,
  ...more
})

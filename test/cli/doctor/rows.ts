import type { Test } from 'tap'
import type { Fault, Route } from '../../graph/faults.js'
import type { App } from '../../graph/state.js'
import { statuses, type startPatient } from './patient.js'

/** Something that is wrong, and what the command finds. */
export interface Row {
  wrong: string
  env?: Record<string, string>
  app?: Partial<App>
  fault?: [Route, Fault]
  /** The checks that are not `ok`. */
  found: Record<string, string>
  /** The detail and the fix of the first of them, else of `app`. */
  says: RegExp
}

type Patient = Awaited<ReturnType<typeof startPatient>>

/** Runs the command for each row. The exit code must be 1 if a check failed. */
export async function runRows (t: Test, { graph, app, check }: Patient, rows: Row[]): Promise<void> {
  const right = { ...app }
  for (const { wrong, env, app: changes, fault, found, says } of rows) {
    await t.test(`wrong: ${wrong}`, async (t) => {
      Object.assign(app, right, changes)
      graph.clearFaults()
      graph.requests.length = 0
      if (fault) graph.fail(...fault)
      const { code, statuses: actual, texts } = await check(env)
      t.strictSame(actual, statuses(found))
      t.match(texts[Object.keys(found)[0] ?? 'app'], says)
      t.equal(code, Object.values(found).includes('failed') ? 1 : 0)
      t.ok(graph.requests.length <= 2, 'two calls at most')
      for (const { method, query, path } of graph.requests) {
        t.equal(method, 'GET')
        t.same(Object.keys(query).filter((name) => !['fields', 'appsecret_proof'].includes(name)), [])
        t.notMatch(path, app.app_secret)
      }
    })
  }
  Object.assign(app, right)
  graph.clearFaults()
}

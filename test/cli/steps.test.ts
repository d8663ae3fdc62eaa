import t from '../run/tap.js'
import { createSteps } from '../../src/cli/demo/steps.js'

const outcome = {
  status: 200,
  sent: { code: 'AQ0123456789abcdef', cleared: null },
  body: {
    code: 'PHONE_NUMBER_TAKEN',
    none: null,
    deep: { access_token: 'EAA0123456789abcdef', verify_token: 'short' },
    list: [{ refresh_token: '0123456789abcdef' }, 2]
  }
}

await t.test('a step prints its title and outcome with masked secrets, and is counted', async (t) => {
  const printed: string[] = []
  const { step, passed } = createSteps((text) => printed.push(text))
  for (const expected of [
    {},
    outcome,
    { status: /^2/, body: { deep: { access_token: /^EAA/ } } }
  ]) t.equal(await step('It is done.', Promise.resolve(outcome), expected), outcome)
  t.equal(passed(), 3)
  t.same(printed.slice(-4), [
    '\n3. It is done.',
    '   status: 200',
    "   sent: { code: '****cdef', cleared: null }",
    "   body: { code: 'PHONE_NUMBER_TAKEN', deep: { access_token: '****cdef', verify_token: 'short' }, list: [ { " +
      "refresh_token: '****cdef' }, 2 ] }"
  ])
})

await t.test('a step with an unexpected outcome throws the path and both values, masked', async (t) => {
  const { step, passed } = createSteps(() => {})
  const rows: Array<[object, string]> = [
    [{ status: 201 }, 'outcome.status should be 201, and is 200.'],
    [{ status: '200' }, "outcome.status should be '200', and is 200."],
    [{ status: /^4/ }, 'outcome.status should be /^4/, and is 200.'],
    [{ sent: null }, "outcome.sent should be null, and is { code: '****cdef', cleared: null }."],
    [{ sent: { cleared: undefined } }, 'outcome.sent.cleared should be undefined, and is null.'],
    [{ body: { none: {} } }, 'outcome.body.none should be {}, and is null.'],
    [{ body: { list: [{}] } }, 'outcome.body.list.length should be 1, and is 2.'],
    [
      { body: { deep: { access_token: 'EAA9999999999999999' } } },
      "outcome.body.deep.access_token should be '****9999', and is '****cdef'."
    ]
  ]
  for (const [expected, fault] of rows) {
    await t.rejects(
      step('It is done.', Promise.resolve(outcome), expected),
      { message: `Step 1 did not hold: ${fault}` }
    )
  }
  await t.rejects(step('It is done.', Promise.reject(new Error('not done')), {}), { message: 'not done' })
  t.equal(passed(), 0)
})

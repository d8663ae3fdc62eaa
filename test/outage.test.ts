import t from 'tap'
import { createOutage } from '../src/outage.js'
import { until } from './helper.js'

/** An outage, and the pings that wait for an answer. */
function createPinged () {
  const pings: { answer: () => void, fail: (err: Error) => void }[] = []
  const outage = createOutage({ ping: async () => await new Promise<void>((resolve, reject) => { pings.push({ answer: resolve, fail: reject }) }) })
  const pinged = async (count: number) => {
    await until(() => pings.length >= count)
    return pings[count - 1] ?? { answer: () => {}, fail: () => {} }
  }
  return { outage, pings, pinged }
}

const gone = new Error('gone')

await t.test('once reported it is known, until the database answers', async (t) => {
  const { outage, pings, pinged } = createPinged()
  t.equal(outage.isKnown, false)
  for (let times = 0; times < 3; times++) outage.report()
  t.equal(outage.isKnown, true, 'at once')
  t.equal(pings.length, 1, 'one asks, however many report')
  const failed = performance.now();
  (await pinged(1)).fail(gone);
  (await pinged(2)).fail(gone)
  await pinged(3)
  t.ok(performance.now() - failed >= 2 * 249, 'not in a hurry')
  t.equal(outage.isKnown, true);
  (await pinged(3)).answer()
  await until(() => !outage.isKnown)
  outage.report()
  t.equal(outage.isKnown, true, 'there may be another');
  (await pinged(4)).answer()
  await until(() => !outage.isKnown)
  await outage.close()
  t.equal(pings.length, 4)
})

await t.test('a suspicion becomes an outage only if the database does not answer', async (t) => {
  const { outage, pings, pinged } = createPinged()
  outage.suspect();
  (await pinged(1)).answer()
  outage.suspect()
  t.equal(outage.isKnown, false);
  (await pinged(2)).fail(gone)
  await until(() => outage.isKnown);
  (await pinged(3)).answer()
  await until(() => !outage.isKnown)
  await outage.close()
  t.equal(pings.length, 3)
})

await t.test('a suspicion during an outage changes nothing', async (t) => {
  const { outage, pings, pinged } = createPinged()
  outage.report()
  outage.suspect();
  (await pinged(2)).fail(gone);
  (await pinged(1)).fail(gone);
  (await pinged(3)).answer()
  await until(() => !outage.isKnown)
  await outage.close()
  t.equal(pings.length, 3)
})

await t.test('closing ends the asking, whatever the database does', async (t) => {
  for (const reported of ['report', 'suspect'] as const) {
    for (const how of ['answer', 'fail'] as const) {
      const { outage, pings, pinged } = createPinged()
      outage[reported]()
      const closed = outage.close();
      (await pinged(1))[how](gone)
      await closed
      t.equal(outage.isKnown, false)
      t.equal(pings.length, 1, `${reported}, ${how}: nobody is asked any more`)
    }
  }
  const { outage, pings, pinged } = createPinged()
  outage.report();
  (await pinged(1)).fail(gone)
  const begun = performance.now()
  await outage.close()
  t.ok(performance.now() - begun < 200, 'it does not wait for the next time')
  outage.report()
  outage.suspect();
  (await pinged(2)).fail(gone)
  await until(() => !outage.isKnown)
  t.equal(pings.length, 2, 'a late report is nothing to go on about')
  await t.resolves(createPinged().outage.close(), 'with nothing to end')
})

await t.test('closing waits for whoever still asks', async (t) => {
  const { outage, pinged } = createPinged()
  outage.report()
  outage.suspect();
  (await pinged(2)).answer()
  let isClosed = false
  const closed = outage.close().then(() => { isClosed = true })
  await new Promise(setImmediate)
  t.equal(isClosed, false);
  (await pinged(1)).answer()
  await closed
})

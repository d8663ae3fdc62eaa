import { setTimeout as delay } from 'node:timers/promises'
import t from '../../run/tap.js'
import { createOutageDetector } from '../../../src/config-loader/outage-detector.js'
import { until } from '../../without-database.js'

/** A detector whose probes the test answers. */
function createKnocked () {
  const knocks: { answer: () => void, fail: (err: Error) => void }[] = []
  const outage = createOutageDetector(
    {
      probe: async () => await new Promise<void>(
        (resolve, reject) => { knocks.push({ answer: resolve, fail: reject }) }
      )
    }
  )
  const knocked = async (count: number) => {
    await until(() => knocks.length >= count)
    return knocks[count - 1] ?? { answer: () => {}, fail: () => {} }
  }
  return { outage, knocks, knocked }
}

const gone = new Error('gone')
/** Lets pending promises settle. */
const turn = async () => await new Promise(setImmediate)

await t.test('a failure becomes an outage when a probe fails, and ends when a probe succeeds', async (t) => {
  const { outage, knocks, knocked } = createKnocked()
  t.equal(outage.isDown, false)
  for (let times = 0; times < 3; times++) outage.reportFailure()
  t.equal(outage.isDown, false, 'not yet')
  t.equal(knocks.length, 1, 'one asks, however many suspect');
  (await knocked(1)).fail(gone)
  const failed = performance.now()
  await until(() => outage.isDown);
  (await knocked(2)).fail(gone)
  outage.reportFailure()
  await knocked(3)
  t.ok(performance.now() - failed >= 2 * 249, 'not in a hurry')
  t.equal(knocks.length, 3, 'a suspicion during an outage changes nothing')
  t.equal(outage.isDown, true);
  (await knocked(3)).answer()
  await until(() => !outage.isDown)

  await turn()
  outage.reportFailure()
  t.equal(outage.isDown, false, 'there may be another');
  (await knocked(4)).fail(gone)
  await until(() => outage.isDown);
  (await knocked(5)).answer()
  await until(() => !outage.isDown)
  await outage.close()
  t.equal(knocks.length, 5)
})

await t.test('a failure followed by a successful probe is no outage', async (t) => {
  const { outage, knocks, knocked } = createKnocked()
  for (const count of [1, 2]) {
    outage.reportFailure();
    (await knocked(count)).answer()
    await turn()
    t.equal(outage.isDown, false)
  }
  await delay(600)
  t.equal(knocks.length, 2, 'nobody asks any more, not even later')
  await outage.close()
  t.equal(knocks.length, 2)
})

await t.test('a success that is reported during a probe overrides the failure of that probe', async (t) => {
  const { outage, knocks, knocked } = createKnocked()
  outage.reportFailure()
  await knocked(1)
  outage.markUp();
  (await knocked(1)).fail(gone)
  await turn()
  t.equal(outage.isDown, false)
  t.equal(knocks.length, 1, 'and ends the asking')

  outage.reportFailure();
  (await knocked(2)).fail(gone)
  await turn()
  t.equal(outage.isDown, true, 'a knock asked after it counts')
  outage.markUp()
  t.equal(outage.isDown, false, 'at once');
  (await knocked(3)).fail(gone)
  await turn()
  t.equal(outage.isDown, true, 'it may be away again')
  outage.markUp();
  (await knocked(4)).answer()
  await turn()
  t.equal(outage.isDown, false)
  await outage.close()
  t.equal(knocks.length, 4)
})

await t.test('a closed detector stays down, whatever the database does', async (t) => {
  for (const how of ['answer', 'fail'] as const) {
    const { outage, knocks, knocked } = createKnocked()
    outage.reportFailure()
    await knocked(1)
    let isClosed = false
    const closed = outage.close().then(() => { isClosed = true })
    t.equal(outage.isDown, true, 'at once')
    await turn()
    t.equal(isClosed, false, 'it waits for whoever still asks')
    outage.markUp();
    (await knocked(1))[how](gone)
    await closed
    outage.markUp()
    outage.reportFailure()
    await turn()
    t.equal(outage.isDown, true, `${how}: it stays known`)
    t.equal(knocks.length, 1, `${how}: nobody is asked any more`)
  }
})

await t.test('close() does not wait for the next probe', async (t) => {
  const { outage, knocks, knocked } = createKnocked()
  outage.reportFailure();
  (await knocked(1)).fail(gone)
  await turn()
  const begun = performance.now()
  await outage.close()
  t.ok(performance.now() - begun < 200)
  t.equal(outage.isDown, true)
  t.equal(knocks.length, 1)
  await t.resolves(createKnocked().outage.close(), 'with nothing to end')
})

import { setTimeout as delay } from 'node:timers/promises'
import t from '../../run/tap.js'
import { createOutageDetector } from '../../../src/config-loader/outage-detector.js'
import { until } from '../../without-database.js'

/** An outage, and the knocks that wait for an answer. */
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
/** Lets go on what can go on by itself. */
const turn = async () => await new Promise(setImmediate)

await t.test('a suspicion becomes an outage when nobody is let in, until somebody is', async (t) => {
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

await t.test('a suspicion of a database that lets us in is nothing', async (t) => {
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

await t.test('an answer that was heard counts more than a knock asked before it', async (t) => {
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

await t.test('closing makes it known for good, whatever the database does', async (t) => {
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

await t.test('closing does not wait for the next time', async (t) => {
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

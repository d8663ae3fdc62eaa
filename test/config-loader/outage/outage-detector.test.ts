import { setTimeout as delay } from 'node:timers/promises'
import t from '../../run/tap.js'
import { createOutageDetector } from '../../../src/config-loader/outage-detector.js'
import { until } from '../../without-database.js'

/** A detector whose probes the test answers. */
function createProbedDetector () {
  const probes: { answer: () => void, fail: (err: Error) => void }[] = []
  const detector = createOutageDetector(
    {
      probe: async () => await new Promise<void>(
        (resolve, reject) => { probes.push({ answer: resolve, fail: reject }) }
      )
    }
  )
  const probeNumber = async (count: number) => {
    await until(() => probes.length >= count)
    return probes[count - 1] ?? { answer: () => {}, fail: () => {} }
  }
  return { detector, probes, probeNumber }
}

const gone = new Error('gone')
/** Lets pending promises settle. */
const flushPromises = async () => await new Promise(setImmediate)

await t.test('a failure becomes an outage when a probe fails, and ends when a probe succeeds', async (t) => {
  const { detector, probes, probeNumber } = createProbedDetector()
  t.equal(detector.isDown, false)
  for (let times = 0; times < 3; times++) detector.reportFailure()
  t.equal(detector.isDown, false, 'failures alone are no outage')
  t.equal(probes.length, 1, 'three failures start one probe');
  (await probeNumber(1)).fail(gone)
  const failed = performance.now()
  await until(() => detector.isDown);
  (await probeNumber(2)).fail(gone)
  detector.reportFailure()
  await probeNumber(3)
  t.ok(performance.now() - failed >= 2 * 249, 'probes have a pause of 250 ms')
  t.equal(probes.length, 3, 'a failure in an outage starts no probe')
  t.equal(detector.isDown, true);
  (await probeNumber(3)).answer()
  await until(() => !detector.isDown)

  await flushPromises()
  detector.reportFailure()
  t.equal(detector.isDown, false, 'a later failure alone is no outage');
  (await probeNumber(4)).fail(gone)
  await until(() => detector.isDown);
  (await probeNumber(5)).answer()
  await until(() => !detector.isDown)
  await detector.close()
  t.equal(probes.length, 5)
})

await t.test('a failure followed by a successful probe is no outage', async (t) => {
  const { detector, probes, probeNumber } = createProbedDetector()
  for (const count of [1, 2]) {
    detector.reportFailure();
    (await probeNumber(count)).answer()
    await flushPromises()
    t.equal(detector.isDown, false)
  }
  await delay(600)
  t.equal(probes.length, 2, 'no probe follows a success')
  await detector.close()
  t.equal(probes.length, 2)
})

await t.test('a success that is reported during a probe overrides the failure of that probe', async (t) => {
  const { detector, probes, probeNumber } = createProbedDetector()
  detector.reportFailure()
  await probeNumber(1)
  detector.markUp();
  (await probeNumber(1)).fail(gone)
  await flushPromises()
  t.equal(detector.isDown, false)
  t.equal(probes.length, 1, 'the success ends the probes')

  detector.reportFailure();
  (await probeNumber(2)).fail(gone)
  await flushPromises()
  t.equal(detector.isDown, true, 'a probe that began after the success counts')
  detector.markUp()
  t.equal(detector.isDown, false, 'markUp() ends the outage at once');
  (await probeNumber(3)).fail(gone)
  await flushPromises()
  t.equal(detector.isDown, true, 'a failed probe ends the recovery')
  detector.markUp();
  (await probeNumber(4)).answer()
  await flushPromises()
  t.equal(detector.isDown, false)
  await detector.close()
  t.equal(probes.length, 4)
})

await t.test('a closed detector stays down, whatever the database does', async (t) => {
  for (const how of ['answer', 'fail'] as const) {
    const { detector, probes, probeNumber } = createProbedDetector()
    detector.reportFailure()
    await probeNumber(1)
    let isClosed = false
    const closed = detector.close().then(() => { isClosed = true })
    t.equal(detector.isDown, true, 'close() takes the detector down at once')
    await flushPromises()
    t.equal(isClosed, false, 'close() waits for the running probe')
    detector.markUp();
    (await probeNumber(1))[how](gone)
    await closed
    detector.markUp()
    detector.reportFailure()
    await flushPromises()
    t.equal(detector.isDown, true, `${how}: the detector stays down`)
    t.equal(probes.length, 1, `${how}: no further probe starts`)
  }
})

await t.test('close() does not wait for the next probe', async (t) => {
  const { detector, probes, probeNumber } = createProbedDetector()
  detector.reportFailure();
  (await probeNumber(1)).fail(gone)
  await flushPromises()
  const begun = performance.now()
  await detector.close()
  t.ok(performance.now() - begun < 200)
  t.equal(detector.isDown, true)
  t.equal(probes.length, 1)
  await t.resolves(createProbedDetector().detector.close(), 'close() without a probe')
})

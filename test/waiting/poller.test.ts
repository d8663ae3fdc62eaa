import t from '../run/tap.js'
import { createPoller } from '../../src/waiting/poller.js'
import { until } from '../helper.js'

/** A poller whose runs last until they are ended. */
function poller (periodMs: number) {
  const ends: Array<() => void> = []
  let active = 0
  let most = 0
  const { start, wake, stop } = createPoller({
    periodMs,
    async work () {
      most = Math.max(most, ++active)
      await new Promise<void>((resolve) => { ends.push(resolve) })
      active--
    }
  })
  return { start, wake, stop, ends, most: () => most }
}

await t.test('the work is repeated a period after each run', async (t) => {
  const { start, stop, ends } = poller(10)
  start()
  for (let runs = 1; runs <= 3; runs++) {
    await until(() => ends.length === runs)
    ends.at(-1)?.()
  }
  await until(() => ends.length === 4)
  ends.at(-1)?.()
  await stop()
  t.equal(ends.length, 4)
})

await t.test('a wake starts a run at once, or one more after the active run', async (t) => {
  const { start, wake, stop, ends, most } = poller(60_000)
  start()
  t.equal(ends.length, 1)
  for (let i = 0; i < 3; i++) wake()
  t.equal(ends.length, 1)
  ends[0]?.()
  await until(() => ends.length === 2)
  ends[1]?.()
  // The second run may not have ended yet.
  await until(() => {
    wake()
    return ends.length === 3
  })
  t.equal(most(), 1)

  wake()
  const stopped = stop()
  wake()
  ends[2]?.()
  await stopped
  wake()
  t.equal(ends.length, 3, 'no run starts after the stop')
})

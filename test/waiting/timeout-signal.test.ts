import { once } from 'node:events'
import t from '../run/tap.js'
import { withTimeoutSignal } from '../../src/waiting/timeout-signal.js'

/** Waits until the signal is aborted, and throws its reason. */
async function untilAborted (signal: AbortSignal): Promise<never> {
  if (!signal.aborted) await once(signal, 'abort')
  throw signal.reason
}

await t.test('the signal is aborted in time, or with the given one', async (t) => {
  await t.rejects(withTimeoutSignal(new AbortController().signal, 1, untilAborted), { name: 'TimeoutError' })
  const controller = new AbortController()
  const waiting = withTimeoutSignal(controller.signal, 60_000, untilAborted)
  controller.abort(new Error('closing'))
  await t.rejects(waiting, { message: 'closing' })
  await t.rejects(withTimeoutSignal(controller.signal, 60_000, untilAborted), { message: 'closing' }, 'aborted before')
  t.equal(await withTimeoutSignal(new AbortController().signal, 60_000, async () => 7), 7)
})

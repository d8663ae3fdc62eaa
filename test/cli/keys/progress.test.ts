import t from '../../run/tap.js'
import { createProgress } from '../../../src/cli/keys/progress.js'

/** A progress whose output is kept. The clock of this process goes on by `advance` alone. */
function createShown (test: typeof t, isTTY?: boolean) {
  const { now } = performance
  let ms = 0
  performance.now = () => ms
  test.teardown(() => { performance.now = now })
  const written: string[] = []
  const write = (text: string | Uint8Array) => { written.push(String(text)); return true }
  const progress = createProgress(isTTY === undefined ? { write } : { write, isTTY })
  return { written, progress, advance: (seconds: number) => { ms += seconds * 1000 } }
}

await t.test('elsewhere than on a terminal a line is written every five seconds', async (t) => {
  const { written, progress, advance } = createShown(t)
  progress.report(1, 10_000)
  t.same(written, [], 'not at once')
  advance(10)
  progress.report(2000, 10_000)
  progress.report(2050, 10_000)
  advance(5)
  progress.report(0, 10_000)
  advance(5)
  progress.report(20_000, 10_000)
  t.same(written, [
    '2,000 of 10,000 values, 200 a second, 40 s left\n',
    '0 of 10,000 values, 0 a second, unknown time left\n',
    '20,000 of 20,000 values, 1,000 a second, 0 s left\n'
  ])
  progress.end()
  t.equal(written.length, 3)
})

await t.test('on a terminal a bar is drawn, and removed at the end', async (t) => {
  const { written, progress, advance } = createShown(t, true)
  advance(100)
  progress.report(5000, 20_000)
  progress.report(5001, 20_000)
  advance(900)
  progress.report(10_000, 1_000_000)
  progress.end()
  t.same(written, [
    '\r\x1b[K[#######-----------------------] 25 % 5,000 of 20,000 values, 50 a second, 5 min left',
    '\r\x1b[K[------------------------------] 1 % 10,000 of 1,000,000 values, 10 a second, 27.5 h left',
    '\r\x1b[K'
  ])
})

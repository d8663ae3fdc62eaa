/** A bar on a terminal is drawn so often; a line elsewhere is written so often. */
const BAR_PERIOD_MS = 100
const LINE_PERIOD_MS = 5000
const BAR_WIDTH = 30
/** Moves to the start of the line, and clears it. */
const CLEAR = '\r\x1b[K'

/** Shows how far the work on some values is: with a bar on a terminal, else with a line every few seconds. */
export function createProgress (output: Pick<NodeJS.WriteStream, 'write'> & { isTTY?: boolean }) {
  const { isTTY = false } = output
  const startedAt = performance.now()
  let shownAt = startedAt
  return {
    /** The values that are done, of how many. */
    report (done: number, expected: number): void {
      const now = performance.now()
      if (now - shownAt < (isTTY ? BAR_PERIOD_MS : LINE_PERIOD_MS)) return
      shownAt = now
      // Others may store further values meanwhile.
      const total = Math.max(done, expected)
      const rate = done / ((now - startedAt) / 1000)
      const left = done === 0 ? 'unknown time' : duration((total - done) / rate)
      const text = `${format(done)} of ${format(total)} values, ${format(rate)} a second, ${left} left`
      output.write(isTTY ? `${CLEAR}${bar(done / total)} ${text}` : `${text}\n`)
    },

    /** Removes the bar. */
    end (): void {
      if (isTTY) output.write(CLEAR)
    }
  }
}

const format = (count: number) => Math.round(count).toLocaleString('en')

function bar (share: number): string {
  const done = Math.floor(share * BAR_WIDTH)
  return `[${'#'.repeat(done)}${'-'.repeat(BAR_WIDTH - done)}] ${Math.floor(share * 100)} %`
}

function duration (seconds: number): string {
  if (seconds < 60) return `${Math.ceil(seconds)} s`
  return seconds < 3600 ? `${Math.ceil(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`
}

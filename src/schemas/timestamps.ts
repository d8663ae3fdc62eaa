const UTC_TIME = /^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d{1,6})?\+00$/
const ZONED_TIME =
  /^(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d)(?:\.(\d{1,6}))?([+-])(\d\d)(?::(\d\d))?(?::(\d\d))?$/

/**
 * Converts a `timestamptz` as PostgreSQL writes it with DateStyle ISO (`2026-11-23 05:55:00.123+00`) to ISO 8601:
 * UTC, six digits, `Z`. An offset other than +00 is applied.
 *
 * @throws Error for any other text: another DateStyle, `infinity`, a UTC year without four digits
 */
export function isoFromPostgres (written: string): string {
  // No Date here, for speed: each row has up to five times.
  if (UTC_TIME.test(written)) {
    // Joined: V8 keeps a template as a tree of its parts, four times as large, and configurations are cached.
    return [written.slice(0, 10), 'T', written.slice(11, 19), '.', written.slice(20, -3).padEnd(6, '0'), 'Z'].join('')
  }
  const [, date, time, fraction = '', sign, hours, minutes = 0, seconds = 0] = ZONED_TIME.exec(written) ?? []
  const offset = Number(`${sign}1`) * (Number(hours) * 3600 + Number(minutes) * 60 + Number(seconds))
  const utc = new Date(Date.parse(`${date}T${time}Z`) - offset * 1000)
  const year = utc.getUTCFullYear()
  if (!(year >= 0 && year <= 9999)) throw new Error(`PostgreSQL sent a time that is not in ISO style: ${written}`)
  return `${utc.toISOString().slice(0, 19)}.${fraction.padEnd(6, '0')}Z`
}

/** Formats a moment, in Unix milliseconds, as `isoFromPostgres` does. */
export const isoFromMs = (ms: number) => new Date(ms).toISOString().replace('Z', '000Z')

/** Whether a text is a moment as `isoFromPostgres` writes it; the year 0 is none. */
export function isIsoTime (text: string): boolean {
  if (!/^\d{4}-.{14}\.\d{6}Z$/.test(text) || text < '0001') return false
  // Date would accept 30 February as 2 March.
  const ms = Date.parse(text)
  return !Number.isNaN(ms) && isoFromMs(ms).slice(0, 23) === text.slice(0, 23)
}

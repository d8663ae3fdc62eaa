import type { Writable } from 'node:stream'
import { createSignedPost } from '../../events/signed-post.js'
import type { Outbound } from '../../outbound/outbound.js'
import type { StreamSend } from './stream.js'

interface PostOptions {
  url: string
  secrets: string
  outbound: Pick<Outbound, 'fetchWith'>
  closing: AbortSignal
}

/** Returns the function that posts records: `{records: […]}`, signed as events are. An operator names the address. */
export function createStreamPost ({ closing, ...options }: PostOptions): StreamSend {
  const post = createSignedPost({ ...options, allowsPrivate: true, spanName: 'send audit records' })
  return async (records, id) => {
    const { status, reason } = await post({ id, body: JSON.stringify({ records }) }, closing)
    return status !== null && status >= 200 && status < 300 ? null : String(status ?? reason)
  }
}

/** Returns the function that writes records as lines, `{"audit": …}`: the level of the log does not apply to them. */
export function createStreamLines (output: Writable): StreamSend {
  // Without a listener a closed pipe ends the process.
  output.on('error', () => {})
  return async (records) => await new Promise((resolve) => {
    const lines = records.map((record) => `${JSON.stringify({ audit: record })}\n`)
    output.write(lines.join(''), (err) => { resolve(err instanceof Error ? err.message : null) })
  })
}

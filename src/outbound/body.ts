import { waitFor } from '../waiting/wait-for.js'

/**
 * Reads the body of an answer; undefined when it is larger. The rest is then not read.
 *
 * @param signal that of the request: undici holds it weakly, and forgets it when garbage is collected during the body
 * @throws the reason of the signal, and the error of a body that breaks off
 */
export async function readBody (reply: Response, maxBytes: number, signal: AbortSignal): Promise<Buffer | undefined> {
  const chunks: Uint8Array[] = []
  let size = 0
  const reader = reply.body?.getReader()
  if (reader === undefined) return Buffer.concat(chunks)
  try {
    for (;;) {
      const { value } = await waitFor(reader.read(), [signal])
      if (value === undefined) return Buffer.concat(chunks)
      size += value.byteLength
      if (size > maxBytes) return undefined
      chunks.push(value)
    }
  } finally {
    // Ends the connection where the body was not read to its end.
    reader.cancel().catch(() => {})
  }
}

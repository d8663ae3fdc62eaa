/** Reads the body of an answer; undefined when it is larger. The rest is then not read. */
export async function readBody (reply: Response, maxBytes: number): Promise<Buffer | undefined> {
  const stream: AsyncIterable<Uint8Array> | Uint8Array[] = reply.body ?? []
  const chunks: Uint8Array[] = []
  let size = 0
  for await (const chunk of stream) {
    size += chunk.byteLength
    // Leaving the loop cancels the stream.
    if (size > maxBytes) return undefined
    chunks.push(chunk)
  }
  return Buffer.concat(chunks)
}

import type { IncomingMessage } from 'node:http'

/** The text of a request. */
export async function textOf (req: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = []
  for await (const chunk of req) chunks.push(chunk)
  return Buffer.concat(chunks).toString()
}

/** The members of a form, or of JSON where they are no objects; of anything else none. */
export async function membersOf (req: IncomingMessage): Promise<URLSearchParams> {
  const type = req.headers['content-type'] ?? ''
  const text = await textOf(req)
  if (type.startsWith('application/x-www-form-urlencoded')) return new URLSearchParams(text)
  if (!type.startsWith('application/json')) return new URLSearchParams()
  const plain = Object.entries(parse(text)).filter(([, value]) => typeof value !== 'object')
  return new URLSearchParams(Object.fromEntries(plain.map(([name, value]) => [name, String(value)])))
}

function parse (text: string): object {
  try {
    return Object(JSON.parse(text))
  } catch {
    // A body that cannot be read counts as none; what Graph says of it is unknown.
    return {}
  }
}

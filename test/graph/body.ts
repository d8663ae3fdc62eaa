import type { IncomingMessage } from 'node:http'

/** The text of a request. */
export async function textOf (req: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = []
  for await (const chunk of req) chunks.push(chunk)
  return Buffer.concat(chunks).toString()
}

/** The members of a form or of JSON, with nested objects as JSON text; none for another content type. */
export async function membersOf (req: IncomingMessage): Promise<URLSearchParams> {
  const type = req.headers['content-type'] ?? ''
  const text = await textOf(req)
  if (type.startsWith('application/x-www-form-urlencoded')) return new URLSearchParams(text)
  if (!type.startsWith('application/json')) return new URLSearchParams()
  const members = Object.entries(parse(text)).map(([name, value]) => [
    name,
    typeof value === 'object' ? JSON.stringify(value) : String(value)
  ])
  return new URLSearchParams(Object.fromEntries(members))
}

/** The members of a JSON object; none for any other value. */
export function parse (text: string): object {
  try {
    return Object(JSON.parse(text))
  } catch {
    // An unreadable body counts as empty; the answer of Graph to it is unknown.
    return {}
  }
}

import { createHmac } from 'node:crypto'

/** Returns a signer of authorization headers: HS256, with these claims, valid for an hour. */
export function signer (secret: string): (claims: Record<string, string>) => { authorization: string } {
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url')
  const head = part({ alg: 'HS256', typ: 'JWT' })
  const now = Math.floor(Date.now() / 1000)
  return (claims) => {
    const text = `${head}.${part({ ...claims, iat: now, exp: now + 3600 })}`
    return { authorization: `Bearer ${text}.${createHmac('sha256', secret).update(text).digest('base64url')}` }
  }
}

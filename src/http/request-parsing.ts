import { Ajv, type FormatDefinition } from 'ajv'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { MalformedJson, PayloadTooLarge, UnsupportedMediaType, ValidationFailed } from '../errors.js'
import { isLoopback } from '../settings/loopback.js'
import { isDecodable } from './url.js'

const BODY_LIMIT_BYTES = 64 * 1024

/** Sets how this scope reads requests: strict JSON in UTF-8, nothing dropped, nothing coerced but query parameters. */
async function requestParsing (fastify: FastifyInstance): Promise<void> {
  const formats = { 'date-time': isTimestamp, 'web-url': createWebUrlCheck(fastify.env.NODE_ENV === 'production') }
  const strict = new Ajv({ removeAdditional: false, coerceTypes: false, useDefaults: false, allowUnionTypes: true, formats })
  const coercing = new Ajv({ removeAdditional: false, coerceTypes: true, useDefaults: false, allowUnionTypes: true, formats })
  fastify.setValidatorCompiler(({ schema, httpPart }) => (httpPart === 'querystring' ? coercing : strict).compile(schema))

  fastify.addHook('onRoute', (route) => {
    route.bodyLimit ??= BODY_LIMIT_BYTES
    // A route that names no query parameters has none, so that a misspelled one is not passed over.
    route.schema = { querystring: { type: 'object', properties: {}, additionalProperties: false }, ...route.schema }
    const bodyErrors = route.schema.body === undefined ? [] : [MalformedJson, PayloadTooLarge, UnsupportedMediaType]
    route.config = { ...route.config, errors: [ValidationFailed, ...bodyErrors, ...route.config?.errors ?? []] }
  })

  // The query parser leaves what it cannot decode as it stands, and an id is not to be compared with that.
  fastify.addHook('preValidation', ({ originalUrl }, _reply, done) => {
    if (!isDecodable(originalUrl)) throw new ValidationFailed()
    done()
  })

  // No body has no type, whatever the header says.
  fastify.addHook('onRequest', ({ headers }, _reply, done) => {
    if (headers['transfer-encoding'] === undefined && Number(headers['content-length'] ?? 0) === 0) delete headers['content-type']
    done()
  })

  const parseJson = fastify.getDefaultJsonParser('error', 'error')
  const utf8 = new TextDecoder('utf-8', { fatal: true })
  fastify.removeAllContentTypeParsers()
  fastify.addContentTypeParser('application/json', { parseAs: 'buffer' }, (request, body: Buffer, done) => {
    if (body.length === 0) return done(null, undefined)
    let text: string
    try {
      text = utf8.decode(body)
    } catch {
      return done(new MalformedJson())
    }
    return parseJson(request, text, done)
  })
  // A POST that needs no body may come with any content type, as long as nothing follows.
  fastify.addContentTypeParser('*', { parseAs: 'buffer' }, (_request, body: Buffer, done) => {
    done(body.length === 0 ? null : new UnsupportedMediaType(), undefined)
  })
}

export default fp(requestParsing, { name: 'request-parsing', dependencies: ['env'] })

/** RFC 3339 date and time with an offset, of a year that PostgreSQL and ISO 8601 write alike (1 to 9999 in UTC). */
function isTimestamp (value: string): boolean {
  if (!/^\d{4}-\d{2}-\d{2}T([01]\d|2[0-3]):\d{2}:\d{2}(\.\d{1,9})?(Z|[+-]\d{2}:\d{2})$/i.test(value)) return false
  const time = new Date(value)
  return !Number.isNaN(time.valueOf()) && time.getUTCFullYear() >= 1 && time.getUTCFullYear() <= 9999 && !isRolledOver(value)
}

/** Date moves 30 February on to March instead of refusing it. */
function isRolledOver (value: string): boolean {
  const [year = 0, month = 0, day = 0] = value.slice(0, 10).split('-').map(Number)
  return day > new Date(Date.UTC(year, month, 0)).getUTCDate()
}

/** Absolute https without userinfo; http only for this very machine, outside production. */
function createWebUrlCheck (production: boolean): FormatDefinition<string>['validate'] {
  return (value: string) => {
    // URL.canParse alone mends what other readers take differently: backslashes, blanks, slashes too many, an empty userinfo.
    if (!/^https?:\/\/[^\s\\/?#@]+([/?#][^\s\\]*)?$/i.test(value) || !URL.canParse(value)) return false
    const { protocol, hostname } = new URL(value)
    return protocol === 'https:' || (!production && isLoopback(hostname))
  }
}

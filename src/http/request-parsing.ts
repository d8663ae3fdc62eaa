import { Ajv, type FormatDefinition } from 'ajv'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { MalformedJson, PayloadTooLarge, UnsupportedMediaType, ValidationFailed } from '../errors.js'
import { quickStart } from '../settings/ajv-options.js'
import { isLoopback } from '../settings/loopback.js'
import { memoized } from './memoized.js'
import { addErrors } from './route-errors.js'
import { isDecodable } from './url.js'

const BODY_LIMIT_BYTES = 64 * 1024

/** Makes this scope read strict JSON in UTF-8. Nothing is dropped, and only query parameters are coerced. */
async function requestParsing (fastify: FastifyInstance): Promise<void> {
  const formats = { 'date-time': isTimestamp, 'web-url': createWebUrlCheck(fastify.env.NODE_ENV === 'production') }
  const options = { ...quickStart, removeAdditional: false, useDefaults: false, allowUnionTypes: true, formats }
  const strict = new Ajv({ ...options, coerceTypes: false })
  const coercing = new Ajv({ ...options, coerceTypes: true })
  const compile = memoized((schema) => strict.compile(schema))
  const compileCoercing = memoized((schema) => coercing.compile(schema))
  fastify.setValidatorCompiler(({ schema, httpPart }) =>
    httpPart === 'querystring' ? compileCoercing(schema) : compile(schema))

  fastify.addHook('onRoute', (route) => {
    route.bodyLimit ??= BODY_LIMIT_BYTES
    // Without a schema a misspelled query parameter would be ignored.
    route.schema = { querystring: { type: 'object', properties: {}, additionalProperties: false }, ...route.schema }
    const bodyErrors = route.schema.body === undefined ? [] : [MalformedJson, PayloadTooLarge, UnsupportedMediaType]
    addErrors(route, ValidationFailed, ...bodyErrors)
  })

  // The query parser returns undecodable text unchanged, and ids would be compared with it.
  fastify.addHook('preValidation', ({ originalUrl }, _reply, done) => {
    if (!isDecodable(originalUrl)) throw new ValidationFailed()
    done()
  })

  // Without a body its type does not matter; Fastify would call a parser for it.
  fastify.addHook('onRequest', ({ headers }, _reply, done) => {
    const hasBody = headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) !== 0
    if (!hasBody) delete headers['content-type']
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
  // A chunked body may turn out empty: that is accepted with any content type.
  fastify.addContentTypeParser('*', { parseAs: 'buffer' }, (_request, body: Buffer, done) => {
    done(body.length === 0 ? null : new UnsupportedMediaType(), undefined)
  })
}

export default fp(requestParsing, { name: 'request-parsing', dependencies: ['env'] })

/** Accepts RFC 3339 with an offset. PostgreSQL and ISO 8601 write the UTC years 1 to 9999 alike. */
function isTimestamp (value: string): boolean {
  if (!/^\d{4}-\d{2}-\d{2}T([01]\d|2[0-3]):\d{2}:\d{2}(\.\d{1,9})?(Z|[+-]\d{2}:\d{2})$/i.test(value)) return false
  const year = new Date(value).getUTCFullYear()
  return year >= 1 && year <= 9999 && !isRolledOver(value)
}

/** Tells whether the day is past the end of its month: Date would accept 30 February as 2 March. */
function isRolledOver (value: string): boolean {
  const [year = 0, month = 0, day = 0] = value.slice(0, 10).split('-').map(Number)
  return day > new Date(Date.UTC(year, month, 0)).getUTCDate()
}

/** Accepts absolute https URLs without userinfo, and http on loopback outside production. */
function createWebUrlCheck (production: boolean): FormatDefinition<string>['validate'] {
  return (value: string) => {
    // URL.canParse repairs backslashes, blanks, extra slashes and an empty userinfo; other parsers may not.
    if (!/^https?:\/\/[^\s\\/?#@]+([/?#][^\s\\]*)?$/i.test(value) || !URL.canParse(value)) return false
    const { protocol, hostname } = new URL(value)
    return protocol === 'https:' || (!production && isLoopback(hostname))
  }
}

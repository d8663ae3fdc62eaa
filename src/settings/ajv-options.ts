import type { Options } from 'ajv'

/**
 * Options of Ajv for schemas of our own, which make the start shorter. Ajv does not check the schemas against its
 * metaschema: the strict mode and the tests do. It does not optimize the code that it makes: V8 does.
 */
export const quickStart: Options = { validateSchema: false, code: { optimize: false } }

/** The types of `pg` lack this file, which `pg` exports. */
declare module 'pg/lib/utils.js' {
  const utils: {
    /** Converts a value as `pg` does for a query. Throws for a circular object. */
    prepareValue: (value: unknown) => string | Buffer | null
  }
  export default utils
}

/** The types of `pg` lack this file, which `pg` exports. With `.js` the loader of the scripts does not find it. */
declare module 'pg/lib/utils' {
  const utils: {
    /** Converts a value as `pg` does for a query. Throws for a circular object. */
    prepareValue: (value: unknown) => string | Buffer | null
  }
  export default utils
}

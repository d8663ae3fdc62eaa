/** Where the tests keep their PostgreSQL. */
export const CLUSTER_DIR = '.data-test'

/** In that directory: the URL of the PostgreSQL that serves this run. */
export const URL_FILE = 'url'

/** A migrated, empty database that every test's own is copied from. */
export const TEMPLATE = 'wtc_test_template'

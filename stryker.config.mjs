const tests = [
  'settings/key-ring', 'settings/dot-env', 'settings/env', 'settings/local-mode', 'settings/secret-settings',
  'vault/masking', 'vault/vault', 'meta/error-map', 'meta/rate-limits/utilization', 'meta/rate-limits/blocks',
  'meta/rate-limits/blocked-calls', 'token-watch/state/state', 'token-watch/state/data-access',
  'token-watch/numbers/number-state', 'onboarding/record/states',
  'config-loader/resolve', 'config-loader/snapshot', 'config-loader/explain', 'config-loader/outage/outage-detector',
  'config-loader/cache/cache', 'config-loader/cache/blind-ttl', 'config-loader/cache/stale',
  'config-loader/cache/read-limiter', 'config-loader/cache/deadline', 'waiting/deadline'
]

/** `npm run mutate`: changes the parts that need no database, one place at a time, and expects a test to fail. */
export default {
  mutate: [
    'settings/key-ring', 'settings/dot-env', 'settings/faults', 'settings/formats', 'settings/values',
    'settings/local-mode', 'settings/env',
    'vault/masking', 'vault/vault', 'meta/error-map', 'meta/rate-limits',
    'token-watch/state', 'token-watch/number-state',
    'onboarding/record',
    'config-loader/cache', 'config-loader/outage-detector', 'config-loader/snapshot', 'config-loader/resolve',
    'config-loader/read-limiter', 'config-loader/explain', 'waiting/deadline'
  ].map((name) => `src/${name}.ts`),
  // Compiled once with all changes in it: compiling in each of thousands of runs would take most of the time.
  buildCommand: 'tsc -p test --noEmit false --noCheck',
  testRunner: 'tap',
  tap: {
    testFiles: tests.map((name) => `dist/test/${name}.test.js`),
    // Two runs of a test at once must not share its `t.testdir()`.
    nodeArgs: ['--import', "data:text/javascript,process.env.TAP_CWD='.tap/'+process.env.STRYKER_MUTATOR_WORKER"]
  },
  coverageAnalysis: 'perTest',
  concurrency: 2,
  ignorePatterns: ['dist', '.compiled', 'docs', '.tap', '.data*'],
  tempDirName: '.tap/stryker',
  reporters: ['clear-text', 'progress'],
  clearTextReporter: { logTests: false },
  thresholds: { high: 95, low: 90, break: 90 }
}

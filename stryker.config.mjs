const tests = [
  'key-ring', 'masking', 'token-status', 'onboarding-record', 'config-snapshot', 'dot-env', 'plugins/vault', 'plugins/meta-verdicts', 'plugins/meta-usage',
  'config-decision', 'explanation', 'plugins/env', 'local-mode', 'secret-settings',
  'config-cache', 'config-cache-turns', 'config-cache-deadline', 'patience', 'outage'
]

/** `npm run mutate`: changes the parts that need no database, one place at a time, and expects a test to fail. */
export default {
  mutate: [
    'key-ring', 'masking', 'plugins/vault', 'token-status', 'onboarding-record', 'plugins/meta-errors', 'plugins/meta-usage',
    'config-cache', 'patience', 'outage', 'config-snapshot', 'config-decision', 'config-entry', 'explanation',
    'dot-env', 'setting-formats', 'setting-values', 'local-mode', 'plugins/env'
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
  ignorePatterns: ['dist', 'docs', '.tap', '.data*'],
  tempDirName: '.tap/stryker',
  reporters: ['clear-text', 'progress'],
  clearTextReporter: { logTests: false },
  thresholds: { high: 95, low: 90, break: 90 }
}

import tap, { type Test } from 'tap'

/** The root test of the test file that is loaded. The files of one process share tap's own, each as a subtest. */
let t: Test = tap
export { t as default }

/** Makes `test` the root test of the file that is loaded next. */
export function setRootTest (test: Test): void {
  t = test
}

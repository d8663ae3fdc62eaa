import * as errors from './errors.js'

const classes = new Map<string, errors.ErrorClass>(Object.values(errors).map((ErrorClass) => [new ErrorClass().code, ErrorClass]))

/** The error of ours that has this code; undefined when none has. */
export function errorNamed (code: string): InstanceType<errors.ErrorClass> | undefined {
  const ErrorClass = classes.get(code)
  return ErrorClass && new ErrorClass()
}

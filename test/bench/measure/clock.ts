/** Microseconds of the monotonic clock, which all processes of the machine share. */
export const clock = () => Number(process.hrtime.bigint() / 1000n)

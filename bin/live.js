// The health check of the container: exit code 0 while the service answers on this machine.
const url = `http://127.0.0.1:${process.env.PORT ?? 8002}/health/live`
const isLive = await fetch(url, { signal: AbortSignal.timeout(2500) }).then(({ ok }) => ok, () => false)
process.exit(isLive ? 0 : 1)

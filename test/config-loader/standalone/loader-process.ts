import { createInterface } from 'node:readline'
import { createConfigLoader } from '../../../src/config-loader/standalone.js'

// A worker process: prints the number of each tenant id that arrives on stdin, and exits when stdin ends.
const loader = await createConfigLoader(...JSON.parse(process.argv[2] ?? ''))
console.log('ready')
for await (const tenantId of createInterface({ input: process.stdin })) {
  console.log(`${tenantId}: ${(await loader.forTenant(tenantId)).getPhoneId()}`)
}
console.log(process.getActiveResourcesInfo().includes('TCPServerWrap') ? 'listens' : 'does not listen')
await loader.close()

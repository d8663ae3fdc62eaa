import { createInterface } from 'node:readline'
import { createConfigLoader } from '../../src/config-loader/standalone.js'

// A worker: says what number each tenant has whose id comes in, and ends when no more can come.
const loader = await createConfigLoader(...JSON.parse(process.argv[2] ?? ''))
console.log('ready')
for await (const tenantId of createInterface({ input: process.stdin })) {
  console.log(`${tenantId}: ${(await loader.forTenant(tenantId)).getPhoneId()}`)
}
console.log(process.getActiveResourcesInfo().includes('TCPServerWrap') ? 'listens' : 'does not listen')
await loader.close()

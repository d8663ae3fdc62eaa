import { createInterface } from 'node:readline'
import { pathToFileURL } from 'node:url'

// The loader of a build, whose app.js is the argument. For each tenant id on stdin it prints the callback_url that the
// row serves, or null for a tenant that no row serves.
const built = pathToFileURL(process.argv[2] ?? '').href
const { createConfigLoader }: typeof import('../../src/app.js') = await import(built)
const loader = await createConfigLoader()
console.log('ready')
for await (const tenantId of createInterface({ input: process.stdin })) {
  const config = await loader.forTenant(tenantId)
  console.log(JSON.stringify(config.hasTenantConfig() ? config.getAllConfig().callback_url : null))
}
await loader.close()

import type { FastifyInstance } from 'fastify'
import { settings } from './serve.js'

// Measures the built code. The path is not a literal; otherwise its types would conflict with those of src/.
const built = new URL('../../../dist/app.js', import.meta.url).href

/** The service with the settings of the benchmark. */
export async function service (): Promise<FastifyInstance> {
  const { buildApp }: typeof import('../../../src/app.js') = await import(built)
  return await buildApp(settings)
}

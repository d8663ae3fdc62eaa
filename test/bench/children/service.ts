import type { FastifyInstance } from 'fastify'
import { settings } from './answer.js'

// As it is built: what is measured is what runs. The path is no literal, else its types would meet those of src/.
const built = new URL('../../../dist/app.js', import.meta.url).href

/** The service with the settings of the benchmark. */
export async function service (): Promise<FastifyInstance> {
  const { buildApp }: typeof import('../../../src/app.js') = await import(built)
  return await buildApp(settings)
}

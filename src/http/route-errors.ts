import type { RouteOptions } from 'fastify'
import type { ErrorClass } from '../errors.js'

declare module 'fastify' {
  interface FastifyContextConfig {
    /** The errors of the route, for its OpenAPI. */
    errors?: ErrorClass[]
  }
}

/** Adds errors to those of a route. */
export function addErrors (route: RouteOptions, ...errors: ErrorClass[]): void {
  route.config = { ...route.config, errors: [...errors, ...route.config?.errors ?? []] }
}

import type { Test } from 'tap'
import { startGraph } from '../server.js'

export interface CallOptions {
  bearer?: string
  form?: Record<string, string>
  json?: unknown
  method?: string
  signal?: AbortSignal
}

/**
 * Starts the stand-in until the test ends. Both functions call it over HTTP: `raw` returns the response, `call` its
 * status, headers and parsed body.
 */
export async function startWithClient (t: Test) {
  const graph = await startGraph()
  t.teardown(() => graph.close())

  async function raw (
    path: string,
    params: Record<string, string> = {},
    { bearer, form, json, method, signal }: CallOptions = {}
  ) {
    return await fetch(`${graph.url}${path}?${new URLSearchParams(params)}`, {
      method: method ?? (form || json ? 'POST' : 'GET'),
      redirect: 'manual',
      headers: {
        ...(bearer !== undefined && { authorization: `Bearer ${bearer}` }),
        ...(json !== undefined && { 'content-type': 'application/json' })
      },
      ...(form && { body: new URLSearchParams(form) }),
      ...(json !== undefined && { body: typeof json === 'string' ? json : JSON.stringify(json) }),
      ...(signal && { signal })
    })
  }

  async function call (path: string, params?: Record<string, string>, options?: CallOptions) {
    const response = await raw(path, params, options)
    return { status: response.status, headers: response.headers, body: JSON.parse(await response.text()) }
  }

  return { graph, state: graph.state, raw, call }
}

import type { Graph } from '../server.js'

interface Options {
  bearer?: string
  form?: Record<string, string>
  json?: unknown
  method?: string
  signal?: AbortSignal
}

/** Calls the stand-in over HTTP: `raw` returns the response, `call` its status, headers and parsed body. */
export function callerOf (graph: Graph) {
  async function raw (
    path: string,
    params: Record<string, string> = {},
    { bearer, form, json, method, signal }: Options = {}
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

  async function call (path: string, params?: Record<string, string>, options?: Options) {
    const response = await raw(path, params, options)
    return { status: response.status, headers: response.headers, body: JSON.parse(await response.text()) }
  }

  return { raw, call }
}

import type { Graph } from './server.js'

interface Options { bearer?: string, form?: Record<string, string>, signal?: AbortSignal }

/** Calls the stand-in over HTTP: `raw` gives the response, `call` its status, headers and parsed body. */
export function callerOf (graph: Graph) {
  async function raw (path: string, params: Record<string, string> = {}, { bearer, form, signal }: Options = {}) {
    return await fetch(`${graph.url}${path}?${new URLSearchParams(params)}`, {
      method: form ? 'POST' : 'GET',
      redirect: 'manual',
      headers: bearer === undefined ? {} : { authorization: `Bearer ${bearer}` },
      ...(form && { body: new URLSearchParams(form) }),
      ...(signal && { signal })
    })
  }

  async function call (path: string, params?: Record<string, string>, options?: Options) {
    const response = await raw(path, params, options)
    return { status: response.status, headers: response.headers, body: JSON.parse(await response.text()) }
  }

  return { raw, call }
}

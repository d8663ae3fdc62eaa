import { Pool, type Dispatcher } from 'undici'

/** Milliseconds for the connection to the proxy and its answer to CONNECT; half the usual timeout of a call. */
const TUNNEL_TIMEOUT_MS = 5000

/**
 * The connections to a proxy. undici's own error for a refused CONNECT has no code of its own, and undici retries
 * without end when the proxy closes the connection in place of an answer.
 */
export class ProxyPool extends Pool {
  /**
   * Opens a tunnel.
   *
   * @throws Error with the code `PROXY_…`: the status of the refusal, `TIMEOUT`, `UNREADABLE`, or the code of the
   * system. Its `syscall` is `connect`: no connection came about. It names neither the proxy nor its user.
   */
  override async connect (options: Parameters<Pool['connect']>[0]): Promise<Dispatcher.ConnectData> {
    const signal = AbortSignal.timeout(TUNNEL_TIMEOUT_MS)
    const tunnel = await super.connect({ ...options, signal }).catch(
      ({ code = 'UNREADABLE' }: NodeJS.ErrnoException) => { throw withoutTunnel(signal.aborted ? 'TIMEOUT' : code) }
    )
    if (tunnel.statusCode === 200) return tunnel
    tunnel.socket.on('error', () => {}).destroy()
    throw withoutTunnel(String(tunnel.statusCode))
  }
}

function withoutTunnel (reason: string): Error {
  return Object.assign(new Error('HTTPS_PROXY opened no tunnel'), { code: `PROXY_${reason}`, syscall: 'connect' })
}

import { randomInt } from 'node:crypto'
import { signer } from '../bench/stage/token.js'
import type { createRequests } from '../upgrade/requests.js'
import type { Step, Reply } from './tenants.js'

const BASE = '/api/v1/tenant'

/** A customer that has onboarded: its tenant id, and the body of its configuration. */
export interface Customer { name: string, waba: unknown }

/** Requests besides those of tenants: logins, verifications, those of an admin, and tokens that are refused. */
export function createOthers (requests: ReturnType<typeof createRequests>, customers: Customer[]): () => Step {
  const { sign, call, login } = requests
  const admin = sign({ role: 'admin' })
  const forged = signer('another secret, which has at least 32 bytes')({ tenant_id: 'soak-1', role: 'admin' })
  const nameless = sign({ sub: 'somebody' })
  let logins = 0

  const get = (path: string, headers: Record<string, string>, judge: Step['judge']): Step =>
    ({ call: { method: 'GET', path: BASE + path, headers }, judge, lose () {} })
  const expects = (status: number): Step['judge'] => (reply) => reply.status === status ? undefined : describe(reply)

  function onboard (): Step {
    const name = `login-${++logins}`
    const request = login(name)
    const waba: unknown = Object(request.body).waba_id
    return {
      call: request,
      judge: (reply) => reply.status === 201 && isOf(reply, name, waba) ? undefined : describe(reply),
      lose () {}
    }
  }

  function verify (): Step {
    const { name, waba } = customers[randomInt(customers.length)] ?? { name: '', waba: '' }
    return {
      call: call('POST', '/config/verify', name),
      judge (reply) {
        if (reply.status !== 200) return describe(reply)
        const { checks: [token, assets], config } = JSON.parse(reply.text)
        const isRight = token.ok === true && assets.ok === true && config.tenant_id === name && config.waba_id === waba
        return isRight ? undefined : describe(reply)
      },
      lose () {}
    }
  }

  return () => {
    const kind = randomInt(10)
    if (kind === 0) return onboard()
    if (kind < 3) return verify()
    if (kind === 3) return get('/admin/configs/stats', admin, statsFault)
    if (kind < 6) return get('/admin/configs/all?limit=50', admin, pageFault)
    if (kind < 8) return get('/config/full', forged, expects(401))
    return kind === 8 ? get('/config/full', nameless, expects(403)) : get('/admin/configs/all', forged, expects(401))
  }
}

function isOf ({ text }: Reply, name: string, waba: unknown): boolean {
  const { tenant_id, waba_id } = JSON.parse(text)
  return tenant_id === name && waba_id === waba
}

function statsFault (reply: Reply): string | undefined {
  if (reply.status !== 200) return describe(reply)
  const { total, active, inactive, onboarded, pending } = JSON.parse(reply.text)
  return total === active + inactive && total === onboarded + pending ? undefined : describe(reply)
}

function pageFault (reply: Reply): string | undefined {
  if (reply.status !== 200) return describe(reply)
  const { configs }: { configs: Array<{ tenant_id: string }> } = JSON.parse(reply.text)
  const names = configs.map(({ tenant_id }) => tenant_id)
  const isSorted = names.every((name, place) => place === 0 || String(names[place - 1]) < name)
  return isSorted ? undefined : describe(reply)
}

function describe ({ status, text }: Reply): string {
  return `answered ${status} ${text.slice(0, 300)}`
}

import autocannon, { type Request } from 'autocannon'

const CONNECTIONS = 10

/**
 * Sends each request once, over as many connections as the servers have to the database.
 * Throws unless all are answered with 200.
 */
export async function fire (origin: string, requests: Request[]): Promise<void> {
  const perConnection = Math.ceil(requests.length / CONNECTIONS)
  let assigned = 0
  const result = await autocannon({
    url: origin,
    connections: CONNECTIONS,
    amount: requests.length,
    sampleInt: 50,
    setupClient: (client) => { client.setRequests(requests.slice(assigned, assigned += perConnection)) }
  })
  if (result['2xx'] !== requests.length) {
    throw new Error(`${origin} answered ${JSON.stringify(result.statusCodeStats)}, ${result.errors} errors`)
  }
}

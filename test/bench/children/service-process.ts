import { cpu, serve } from './serve.js'
import { service } from './service.js'

const app = await service()
await app.listen({ port: 0, host: '127.0.0.1' })

serve({ cpu, port: () => Number(new URL(app.listeningOrigin).port) })

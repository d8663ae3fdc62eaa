import { startGraph } from '../../graph/server.js'
import { serve } from './serve.js'

// The stand-in of Meta's Graph API. It knows no token, so it refuses each call that reaches it.
const graph = await startGraph({ port: 0 })

serve({ port: () => Number(new URL(graph.url).port) })

import { constants, setPriority } from 'node:os'
import { startGraph } from '../../graph/server.js'
import { serve } from './serve.js'

// The stand-in of Meta's Graph API. It knows no token, so it refuses each call that reaches it. Elsewhere Meta has
// machines of its own: here it gets the CPU time that the service leaves.
setPriority(constants.priority.PRIORITY_LOW)
const graph = await startGraph({ port: 0 })

serve({ port: () => Number(new URL(graph.url).port) })

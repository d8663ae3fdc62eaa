import type { EventEmitter } from 'node:events'
import { setTimeout as delay } from 'node:timers/promises'
import { buildApp, type ConfigSnapshot } from '../../../src/app.js'
import { answerOfSnapshot, now, type Observation } from './history.js'
import type { Command } from './reading.js'

// An instance of the service with readers inside; they record the answers of its loader.
const SAMPLE_MS = 50
const app = await buildApp()
await app.listen({ port: 0, host: '127.0.0.1' })
const { configLoader } = app
const kept: Observation[] = []
const latest = new Map<string, Observation & { isKept: boolean, keptAt: number }>()
const readers: Array<Promise<void>> = []
let reading = new AbortController()

async function ask (question: string): Promise<Array<ConfigSnapshot | null>> {
  const [kind = '', id = ''] = question.split(':')
  if (kind === 'tenant') return [await configLoader.forTenant(id)]
  if (kind === 'number') return [await configLoader.forPhoneNumber(id)]
  return [...await configLoader.forWaba(id)]
}

const nameOf = (err: unknown) => `!${err instanceof Error && 'code' in err ? String(err.code) : String(err)}`

async function observe (question: string): Promise<void> {
  const asked = now()
  const answer = await ask(question).then((snapshots) => {
    const isStale = snapshots.some((snapshot) => snapshot?.isStale() === true)
    return `${isStale ? '~' : ''}${snapshots.map(answerOfSnapshot).join(' + ') || 'nobody'}`
  }, nameOf)
  keep({ question, answer, asked, answered: now() })
}

/** Records the first and the last of a series of equal answers, and samples between them. */
function keep (observation: Observation): void {
  const before = latest.get(observation.question)
  const isNew = before?.answer !== observation.answer
  if (isNew && before?.isKept === false) kept.push(before)
  const isKept = isNew || observation.asked > before.keptAt + SAMPLE_MS
  if (isKept) kept.push(observation)
  latest.set(observation.question, { ...observation, isKept, keptAt: isKept ? observation.asked : before.keptAt })
}

async function read (questions: string[], pauseMs: number, { signal }: AbortController): Promise<void> {
  while (!signal.aborted) {
    await observe(questions[Math.floor(Math.random() * questions.length)] ?? '')
    await delay(pauseMs)
  }
}

/** The recorded answers, with the last answer to each question. */
async function stop (): Promise<Observation[]> {
  reading.abort()
  reading = new AbortController()
  await Promise.all(readers.splice(0))
  const last = [...latest.values()].filter(({ isKept }) => !isKept)
  latest.clear()
  return [...kept.splice(0), ...last]
}

async function execute ({ name, questions, times, pauseMs }: Command): Promise<unknown> {
  if (name === 'stats') return configLoader.stats()
  if (name === 'latest') return [...latest.values()]
  if (name === 'stop') return await stop()
  if (name === 'ask') {
    await Promise.all(
      questions.flatMap((question) => Array.from({ length: times }, async () => { await observe(question) }))
    )
    return null
  }
  readers.push(...Array.from({ length: times }, async () => { await read(questions, pauseMs, reading) }))
  return null
}

const inbox: EventEmitter = process
inbox.on(
  'message',
  async ({ id, ...command }: Command & { id: number }) => { process.send?.({ id, value: await execute(command) }) }
)
inbox.once('disconnect', async () => {
  await stop()
  await app.close()
})
process.send?.({ id: 0, value: app.listeningOrigin })

import { existsSync, readdirSync, statSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('..', import.meta.url))
const sources = `${root}src`

/** Whether this is a checkout; a release has dist/ and no sources. */
export const hasSources = existsSync(sources)

/** Returns what is wrong with a program of dist/ and how to build it; undefined when it is as new as the sources. */
export function findFault (program) {
  const how = 'Build it: npm ci --include=dev && npm run build'
  const path = `${root}dist/${program}`
  if (!existsSync(path)) return `dist/${program} is missing. ${how}`
  if (hasSources && newest() > statSync(path).mtimeMs) return `dist/ is older than src/. ${how}`
}

function newest () {
  return Math.max(...readdirSync(sources, { recursive: true }).map((name) => statSync(`${sources}/${name}`).mtimeMs))
}

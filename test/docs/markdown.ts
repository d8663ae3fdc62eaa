import { readdirSync, readFileSync } from 'node:fs'

/** A fenced block of a document. */
export interface Block {
  language: string
  text: string
  /** The line number of its first line, for messages. */
  line: number
}

/** All documents, by their path from the root of the project. */
export const documents = new Map([
  'README.md',
  ...readdirSync('docs').filter((name) => name.endsWith('.md')).map((name) => `docs/${name}`)
]
  .map((path) => [path, readFileSync(path, 'utf8')]))

/** The text of one document. Throws if it does not exist. */
export function textOf (path: string): string {
  const text = documents.get(path)
  if (text === undefined) throw new Error(`there is no ${path}`)
  return text
}

export function blocksOf (markdown: string): Block[] {
  return [...markdown.matchAll(/^```(\w*)\n(.*?)^```$/gms)].map(({ 1: language = '', 2: text = '', index }) => (
    { language, text, line: markdown.slice(0, index).split('\n').length }))
}

/**
 * The rows of the table whose header begins with `first`, with the raw text of each cell. Throws if no table matches.
 */
export function tableOf (markdown: string, first: string): string[][] {
  const [, rows] = new RegExp(`^\\| *${first} *\\|.*\\n\\|[-| ]+\\n((?:\\|.*\\n)+)`, 'm').exec(markdown) ?? []
  if (rows === undefined) throw new Error(`no table begins with ${first}`)
  return rows.trimEnd().split('\n').map((row) => row.split('|').slice(1, -1).map((cell) => cell.trim()))
}

/** The anchors of the headings of a document. */
export function anchorsOf (markdown: string): string[] {
  const prose = markdown.replace(/^```.*?^```$/gms, '')
  return [
    ...prose.matchAll(/^#+ (.+)$/gm)
  ].map(({ 1: heading = '' }) => heading.toLowerCase().replace(/[^\p{L}\p{N} _-]/gu, '').replaceAll(' ', '-'))
}

import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

/** The statements of a migration or of its rollback, in their order. */
export interface Script {
  statements: string[]
  /** Each statement runs alone and can run again: the next run completes a killed one. */
  isOutsideTransaction: boolean
}

export interface Migration extends Script {
  /** The name of its file, without `.sql`. */
  tag: string
  /** Unix milliseconds; identifies the migration in the journal. */
  when: number
  /** SHA-256 of the file. */
  hash: string
}

interface JournalFile { entries: Array<Pick<Migration, 'tag' | 'when'>> }

const OUTSIDE = '-- outside a transaction\n'

export const FOLDER = fileURLToPath(new URL('../../../drizzle', import.meta.url))

/** Reads the migrations of a folder as drizzle-kit writes it, oldest first. */
export function readMigrations (folder: string): Migration[] {
  const { entries }: JournalFile = JSON.parse(readFileSync(`${folder}/meta/_journal.json`, 'utf8'))
  return entries.map(({ tag, when }) => {
    const text = readFileSync(`${folder}/${tag}.sql`, 'utf8')
    return { tag, when, hash: createHash('sha256').update(text).digest('hex'), ...parse(text) }
  })
}

/** Reads the rollback of a migration. */
export function readRollback (folder: string, tag: string): Script {
  return parse(readFileSync(`${folder}/rollback/${tag}.sql`, 'utf8'))
}

function parse (text: string): Script {
  const isOutsideTransaction = text.startsWith(OUTSIDE)
  const statements = text.slice(isOutsideTransaction ? OUTSIDE.length : 0).split('--> statement-breakpoint')
  return { statements: statements.map((statement) => statement.trim()), isOutsideTransaction }
}

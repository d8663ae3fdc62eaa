import pg from 'pg'
import type { WallState } from './state.js'

const { escapeIdentifier: id } = pg

/** The statement that lets the login work as a role. Before PostgreSQL 16 a membership has no options. */
export const membership = ({ login, version }: WallState, role: string): string =>
  `grant ${id(role)} to ${id(login)}${version >= 160000 ? ' with inherit false, set true' : ''}`

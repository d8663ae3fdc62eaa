import pg from 'pg'
import type { WallState } from './state.js'

const { escapeIdentifier: id } = pg

/** The statement that lets the login work as a role. */
export const membership = ({ login, terms }: WallState, role: string): string =>
  `grant ${id(role)} to ${id(login)}${terms}`

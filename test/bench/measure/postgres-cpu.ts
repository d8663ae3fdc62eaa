import { readdirSync, readFileSync } from 'node:fs'

const MICROSECONDS_PER_TICK = 10_000

/**
 * CPU time of a local PostgreSQL so far, in microseconds: all its processes, ended ones included. Takes the process id
 * of the postmaster; returns NaN without /proc.
 */
export function postgresCpu (postmaster: number): number {
  try {
    const processes = readdirSync('/proc').filter((name) => /^\d+$/.test(name)).map(Number)
    const living = processes.filter((pid) => pid === postmaster || parentOf(pid) === postmaster).map(spent)
    return living.reduce((sum, each) => sum + each, statOf(postmaster).waited)
  } catch {
    return NaN
  }
}

/** The postmaster of a backend; NaN if it runs on another machine, or without /proc. */
export function postmasterOf (backend: number): number {
  try {
    return readFileSync(`/proc/${backend}/cmdline`, 'utf8').startsWith('postgres') ? parentOf(backend) : NaN
  } catch {
    return NaN
  }
}

/** The parent of a process; NaN if the process has ended. */
function parentOf (pid: number): number {
  try {
    return statOf(pid).parent
  } catch {
    return NaN
  }
}

function statOf (pid: number): { parent: number, waited: number } {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
  // The name before the last bracket may contain blanks and brackets. proc(5): field 4 is ppid; 16 and 17 are the times
  // of children that were waited for.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ').map(Number)
  const [parent = NaN, user = NaN, system = NaN] = [fields[1], fields[13], fields[14]]
  return { parent, waited: (user + system) * MICROSECONDS_PER_TICK }
}

/** CPU time of a single-threaded process, as PostgreSQL's are. 0 if it has ended: its parent then has its time. */
function spent (pid: number): number {
  try {
    // In nanoseconds; /proc/<pid>/stat has a resolution of 10 ms.
    return Number(readFileSync(`/proc/${pid}/schedstat`, 'utf8').split(' ')[0]) / 1000
  } catch {
    return 0
  }
}

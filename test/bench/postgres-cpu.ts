import { readdirSync, readFileSync } from 'node:fs'

const MICROSECONDS_PER_TICK = 10_000

/**
 * CPU time that a PostgreSQL on this machine has used so far, in microseconds: all its processes, those that have ended
 * too. Takes the process id of the postmaster; returns NaN where there is no /proc.
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

/** The postmaster that a backend belongs to; NaN when it does not run on this machine, or there is no /proc. */
export function postmasterOf (backend: number): number {
  try {
    return readFileSync(`/proc/${backend}/cmdline`, 'utf8').startsWith('postgres') ? parentOf(backend) : NaN
  } catch {
    return NaN
  }
}

/** The parent of a process; NaN when that is gone. */
function parentOf (pid: number): number {
  try {
    return statOf(pid).parent
  } catch {
    return NaN
  }
}

function statOf (pid: number): { parent: number, waited: number } {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
  // The name before it may hold blanks and brackets. proc(5): 4 ppid, 16 and 17 the time of children that were waited
  // for.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ').map(Number)
  const [parent = NaN, user = NaN, system = NaN] = [fields[1], fields[13], fields[14]]
  return { parent, waited: (user + system) * MICROSECONDS_PER_TICK }
}

/** Of a process of one thread, as PostgreSQL's are; 0 when it is gone, as its parent then has its time. */
function spent (pid: number): number {
  try {
    // In nanoseconds; /proc/<pid>/stat has it in steps of 10 ms.
    return Number(readFileSync(`/proc/${pid}/schedstat`, 'utf8').split(' ')[0]) / 1000
  } catch {
    return 0
  }
}

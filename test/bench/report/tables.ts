import { microseconds, type Result } from './result.js'

/** The table that is printed at the end. */
export function table (results: Result[]): string {
  return rows([
    'figure', 'ours', 'floor', 'ratio', 'goal', 'met'
  ], results.map(({ figure, ours, floor = '', ratio, goal = '', met }) =>
    [figure, ours, floor, ratio?.toFixed(2) ?? '', goal, met === undefined ? '' : met ? 'yes' : 'no']))
}

/** The table of PostgreSQL's CPU time in the same runs. */
export function postgresTable (results: Result[]): string {
  return rows(['figure', 'ours', 'floor', 'ratio'], results.flatMap(({ figure, postgres }) =>
    postgres === undefined
      ? []
      : [
          [
            figure,
            known(postgres.ours, microseconds),
            known(postgres.floor, microseconds),
            known(postgres.ours / postgres.floor, (ratio) => ratio.toFixed(2))
          ]
        ]))
}

const known = (value: number, show: (value: number) => string) => Number.isNaN(value) ? 'n/a' : show(value)

function rows (head: string[], cells: string[][]): string {
  return [head, head.map(() => '---'), ...cells].map((row) => `| ${row.join(' | ')} |`).join('\n')
}

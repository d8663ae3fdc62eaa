import { until } from '../helper.js'

/** A sample of a scrape: its name, its labels and its value. */
export interface Sample { name: string, labels: Record<string, string>, value: number }

const SAMPLE = /^(\w+)(?:\{(.*)\})? (\S+)$/

/** The URL of the metrics, which the service logs at its start. */
export function metricsUrl (log: string): string {
  const [, url] = /"msg":"serving metrics at (http:[^"]+)"/.exec(log) ?? []
  if (url === undefined) throw new Error('the service serves no metrics')
  return url
}

/** Scrapes the metrics: the text, its samples, and the names and types of all metrics. */
export async function scrape (url: string) {
  const response = await fetch(url)
  if (response.status !== 200) throw new Error(`the scrape was answered with ${response.status}`)
  const text = await response.text()
  const samples = text.split('\n').flatMap((line) => parseSample(line) ?? [])
  const types = new Map([...text.matchAll(/^# TYPE (\w+) (\w+)$/gm)].map(([, name = '', type = '']) => [name, type]))
  return {
    text,
    samples,
    types,
    /** The value of the only sample with this name and these labels; undefined without one. */
    value: (name: string, labels: Record<string, string> = {}) => valueOf(samples, name, labels)
  }
}

/** Scrapes until the condition holds. */
export async function scrapeUntil (
  url: string, condition: (scraped: Awaited<ReturnType<typeof scrape>>) => boolean
): Promise<void> {
  await until(async () => condition(await scrape(url)))
}

function parseSample (line: string): Sample | undefined {
  const [, name, labels = '', value] = SAMPLE.exec(line) ?? []
  if (name === undefined) return undefined
  const pairs = [...labels.matchAll(/(\w+)="([^"]*)"/g)].map(([, label = '', text = '']) => [label, text])
  return { name, labels: Object.fromEntries(pairs), value: Number(String(value).replace('Inf', 'Infinity')) }
}

function valueOf (samples: Sample[], name: string, labels: Record<string, string>): number | undefined {
  const found = samples.filter((sample) => sample.name === name &&
    Object.entries(labels).every(([label, text]) => sample.labels[label] === text))
  if (found.length > 1) throw new Error(`${found.length} samples of ${name} have these labels`)
  return found[0]?.value
}

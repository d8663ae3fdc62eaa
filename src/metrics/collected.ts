import { Counter, Gauge, type Registry } from 'prom-client'

/** The values of a gauge by the values of its label. */
type Values = Record<string, number>

export type Collected = ReturnType<typeof createCollected>

/** Creates metrics whose values are read at each scrape. A gauge without a value (undefined) is left out of it. */
export function createCollected (registry: Registry) {
  const registers = [registry]
  return {
    gauge (name: string, help: string, read: () => number | undefined | Promise<number | undefined>): void {
      const collect = async () => {
        gauge.remove()
        const value = await read()
        if (value !== undefined) gauge.set(value)
      }
      const gauge = new Gauge({ name, help, registers, collect })
    },

    gaugeBy<Label extends string> (
      name: string, help: string, label: Label, read: () => Values | undefined | Promise<Values | undefined>
    ): void {
      const collect = async () => {
        gauge.reset()
        for (const [key, value] of Object.entries(await read() ?? {})) gauge.labels(key).set(value)
      }
      const gauge = new Gauge({ name, help, labelNames: [label], registers, collect })
    },

    counter (name: string, help: string, read: () => number): void {
      const collect = () => {
        counter.reset()
        counter.inc(read())
      }
      const counter = new Counter({ name, help, registers, collect })
    }
  }
}

import { readFileSync } from 'node:fs'
import { parse } from 'yaml'

/** A service of deploy/compose.yaml. */
export interface ComposeService {
  image?: string
  build?: { context?: string, dockerfile?: string, dockerfile_inline?: string }
  command?: string[]
  environment?: Record<string, string>
  secrets?: string[]
  volumes?: string[]
  networks: string[]
  depends_on?: Record<string, { condition: string }>
  healthcheck?: { test?: string[], disable?: boolean }
  read_only: boolean
  cap_drop: string[]
  security_opt: string[]
  stop_grace_period?: string
}

export interface Compose {
  services: Record<string, ComposeService>
  secrets: Record<string, { file: string }>
  networks: Record<string, object>
  volumes: Record<string, object>
}

const file = (path: string) => readFileSync(path, 'utf8')

/** deploy/compose.yaml, with its anchors resolved. */
export function readCompose (): Compose {
  return parse(file('deploy/compose.yaml'), { merge: true })
}

/** A service of `compose`. Throws if there is none. */
export function serviceOf ({ services }: Compose, name: string): ComposeService {
  const service = services[name]
  if (service === undefined) throw new Error(`deploy/compose.yaml has no ${name}`)
  return service
}

export interface Container {
  image: string
  command?: string[]
  env: Array<{ name: string, value: string }>
  ports?: Array<{ name: string, containerPort: number }>
  startupProbe?: Probe
  livenessProbe?: Probe
  readinessProbe?: Probe
  securityContext: object
  resources: object
  volumeMounts: Array<{ name: string, mountPath: string }>
}

interface Probe { httpGet: { path: string, port: string } }

export interface Pod {
  metadata: { labels: Record<string, string> }
  spec: {
    terminationGracePeriodSeconds: number
    securityContext: { runAsNonRoot: boolean, runAsUser: number }
    containers: [Container]
    volumes: Array<{ name: string, secret: { secretName: string } }>
    topologySpreadConstraints?: Array<{ labelSelector: Selector }>
  }
}

interface Selector { matchLabels: Record<string, string> }

export interface Manifests {
  deployment: { kind: string, spec: { replicas: number, selector: Selector, template: Pod } }
  migration: { kind: string, spec: { template: Pod } }
  service: {
    kind: string
    spec: { selector: Record<string, string>, ports: Array<{ port: number, targetPort: string }> }
  }
  budget: { kind: string, spec: { minAvailable: number, selector: Selector } }
  secret: { kind: string, metadata: { name: string }, stringData: Record<string, string> }
}

/** All files of deploy/kubernetes. */
export function readManifests (): Manifests {
  const read = (name: string) => parse(file(`deploy/kubernetes/${name}.yaml`))
  return {
    deployment: read('deployment'),
    migration: read('migration'),
    service: read('service'),
    budget: read('disruption-budget'),
    secret: read('secret.example')
  }
}

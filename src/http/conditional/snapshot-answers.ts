import { createHmac, hkdfSync } from 'node:crypto'
import type { ConfigSnapshot } from '../../config-loader/snapshot.js'
import type { ResolvedConfig } from '../../schemas/services/resolve.js'

/** JSON, and its entity tag. */
export interface TaggedJson { json: string, etag: string }

/**
 * Creates the answers that show snapshots, with their secrets in clear. That of a snapshot is made once, and lives as
 * long as the snapshot.
 *
 * @param keyRing `ENCRYPTION_KEYS`. The tag is keyed by it: a plain hash would let who sees it test guesses of a secret
 */
export function createSnapshotAnswers (keyRing: string) {
  const key = Buffer.from(hkdfSync('sha256', keyRing, '', 'entity tags of GET /resolve', 32))
  const answers = new WeakMap<ConfigSnapshot, TaggedJson>()
  const tag = (json: string): TaggedJson => (
    { json, etag: `"${createHmac('sha256', key).update(json).digest('base64url').slice(0, 22)}"` })

  /** @throws SECRET_UNREADABLE */
  function ofSnapshot (snapshot: ConfigSnapshot): TaggedJson {
    const known = answers.get(snapshot)
    if (known !== undefined) return known
    const answer = tag(JSON.stringify({
      tenant_id: snapshot.getTenantId(),
      values: snapshot.getAllConfig(),
      sources: snapshot.getSources(),
      is_stale: snapshot.isStale()
    } satisfies ResolvedConfig))
    answers.set(snapshot, answer)
    return answer
  }

  return {
    ofSnapshot,
    /** The answer of GET /resolve with several configurations. Throws SECRET_UNREADABLE. */
    ofSnapshots: (snapshots: ConfigSnapshot[]): TaggedJson =>
      tag(`{"configs":[${snapshots.map((snapshot) => ofSnapshot(snapshot).json).join()}]}`)
  }
}

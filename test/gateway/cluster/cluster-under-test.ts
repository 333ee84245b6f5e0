// A gate of several processes before real services, its world held by the test.
import cluster from 'node:cluster'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { EndpointRecord } from '../../../domain/access/endpoint-record.ts'
import { emptySnapshot, nextSnapshot, type SnapshotChanges } from '../../../domain/access/snapshot.ts'
import { startProxyCluster } from '../../../gateway/cluster/start.ts'
import { createMetrics } from '../../../gateway/metrics/metrics.ts'
import { openAssertionKeys } from '../../../gateway/proxy/assertion-keys.ts'
import { openPolicyFile } from '../../../gateway/proxy/policy-store.ts'
import type { TraceSettings } from '../../../gateway/traces/traces.ts'
import type { ProxyOptions } from '../../../gateway/proxy/start.ts'
import { systemTimers } from '../../../node/timers.ts'
import type { ChangeCause, Changed } from '../../../gateway/world.ts'
import { createAuthority } from '../../../identity/authority.ts'
import { silentLog } from '../../../node/logging.ts'
import { BAD_TAG, GATEWAY, OK_TAG, UID, issue, later, record } from '../proxy/gate-under-test.ts'

export async function startClusterGate(yaml: string, count: number, limits: ProxyOptions['limits'] = {}, traces: TraceSettings | null = null) {
  const directory = mkdtempSync(join(tmpdir(), 'cluster-'))
  const policiesFile = join(directory, 'policies.yaml')
  writeFileSync(policiesFile, yaml)
  const authority = await createAuthority({ name: 'Test CA', now: Date.now() })
  let authorities = [authority.certificatePem]
  const own = await issue(authority, GATEWAY, 'gateway')
  const agent = await issue(authority, UID, 'agent')
  const log = silentLog()
  const policies = await openPolicyFile({ path: policiesFile, log })
  let snapshot = nextSnapshot(emptySnapshot, { revision: '1.0', currentAt: Date.now(), tagNames: new Map([[OK_TAG, 'compliant'], [BAD_TAG, 'infected']]), endpoints: new Map([[UID, record(UID, [agent])]]) })
  const listeners = new Set<(changed: Changed, cause: ChangeCause) => void>()
  const change = (changes: SnapshotChanges, changed: Changed = new Set(changes.endpoints?.keys())) => {
    snapshot = nextSnapshot(snapshot, changes)
    for (const listener of listeners) listener(changed, { at: Date.now() })
  }
  const answers = new Map<string, EndpointRecord>()
  const seen = new Set<string>()
  const assertionKeys = await openAssertionKeys({ directory, now: Date.now, timers: systemTimers, log })
  const metrics = createMetrics()
  const proxy = await startProxyCluster({
    count, policies, policiesFile, identity: { certPem: own.cert, keyPem: own.key }, authorities: () => authorities, listen: { host: '127.0.0.1', port: 0 }, serial: GATEWAY, stateDirectory: directory,
    log, logLevel: 'silent', metrics, timers: systemTimers, now: Date.now, alsoRefused: () => [], limits, traces,
    world: { snapshot: () => snapshot, onChange(listener) {
      listeners.add(listener)
      return () => listeners.delete(listener)
    }, lookup(uid) {
      const found = answers.get(uid)
      if (found !== undefined) change({ endpoints: new Map([[uid, found]]) })
      return Promise.resolve(true)
    } },
    onProved(peer, address) {
      const entry = `${peer.commonName} ${address}`
      seen.add(entry)
      return () => seen.delete(entry)
    },
  })
  later(async () => {
    await proxy.close()
    assertionKeys.close()
    policies.close()
    rmSync(directory, { recursive: true })
  })
  return {
    proxy, authority, agent, own, change, answers, seen, directory, policiesFile,
    putTags: (tags: string[]) => change({ endpoints: new Map([[UID, record(UID, [agent], { tags: new Map(tags.map((tag) => [tag, { validUntil: null }])) })]]) }),
    /** Believes another CA beside the first. */
    believe(certificatePem: string) {
      authorities = [...authorities, certificatePem]
      proxy.updateAuthorities()
    },
    processes: () => Object.values(cluster.workers ?? {}).flatMap((worker) => worker?.process.pid ?? []),
  }
}

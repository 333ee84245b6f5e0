// The agent's line to its EMS: one control client, made anew when the profile changes how TLS certificates are taken.
import { createControlClient, type ControlClient, type Identity } from '../node/control-client.ts'
import type { InvalidCertificateAction } from '../node/tls-trust.ts'
import type { Log } from '../node/logging.ts'

export interface Control {
  /** The client of the moment: fetch it for each call. */
  client(): ControlClient
  /** EMS clock minus this machine's, ms, as far as it was learned. */
  offset(): number
  /** This machine's clock corrected by it, ms. */
  emsNow(): number
  /** True when it changed. */
  setInvalidCertificateAction(action: InvalidCertificateAction): boolean
  close(): Promise<void>
}

export function createControl(options: { ems: string; identity: () => Identity | null; tlsCa: readonly string[]; action: InvalidCertificateAction; now: () => number; log: Log }): Control {
  /** What earlier clients have learned: a wrong clock stays wrong when the client is another. */
  let learned = 0
  const make = (invalidCertificateAction: InvalidCertificateAction) => {
    const known = learned
    return createControlClient({ ems: options.ems, identity: options.identity, tlsCa: options.tlsCa, invalidCertificateAction, now: () => options.now() + known, log: options.log })
  }
  let { action } = options
  let client = make(action)
  const closing = new Set<Promise<void>>()
  return {
    client: () => client,
    offset: () => learned + client.offset(),
    emsNow: () => client.emsNow(),
    setInvalidCertificateAction(next) {
      if (next === action) return false
      action = next
      learned += client.offset()
      // Connections that were forgiven must not outlive the forgiveness.
      const old = client.close().finally(() => closing.delete(old))
      closing.add(old)
      client = make(next)
      return true
    },
    async close() {
      await Promise.all([client.close(), ...closing])
    },
  }
}

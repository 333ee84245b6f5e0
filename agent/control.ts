// The agent's line to its EMS: one control client, made anew when the profile changes how TLS certificates are taken.
import { createControlClient, type ControlClient, type Identity } from '../node/control-client.ts'
import type { InvalidCertificateAction } from '../node/tls-trust.ts'
import type { Log } from '../node/logging.ts'

export interface Control {
  /** The client of the moment: fetch it for each call. */
  client(): ControlClient
  /** This machine's clock corrected by what the EMS told, ms. */
  emsNow(): number
  setInvalidCertificateAction(action: InvalidCertificateAction): void
  close(): Promise<void>
}

export function createControl(options: { ems: string; identity: () => Identity | null; tlsCa: readonly string[]; action: InvalidCertificateAction; now: () => number; log: Log }): Control {
  const make = (invalidCertificateAction: InvalidCertificateAction) => createControlClient({ ems: options.ems, identity: options.identity, tlsCa: options.tlsCa, invalidCertificateAction, now: options.now, log: options.log })
  let { action } = options
  let client = make(action)
  const closing = new Set<Promise<void>>()
  return {
    client: () => client,
    emsNow: () => client.emsNow(),
    setInvalidCertificateAction(next) {
      if (next === action) return
      action = next
      // Connections that were forgiven must not outlive the forgiveness.
      const old = client.close().finally(() => closing.delete(old))
      closing.add(old)
      client = make(next)
    },
    async close() {
      await Promise.all([client.close(), ...closing])
    },
  }
}

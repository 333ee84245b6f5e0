// What becomes of somebody who shows no certificate. Whoever is let in so has no device and no tags.

/** `block`: refused. `anonymous`: reaches anonymous services. `unmanageable`: so does, by its claim, a kind of device that can't be managed. */
export interface NoCertificate { readonly mode: 'block' | 'anonymous' | 'unmanageable'; /** Whether a User-Agent is of such a kind. */ readonly unmanageable: (userAgent: string) => boolean }

/** Kinds of devices for which there is no agent. */
export const UNMANAGEABLE = ['Android', 'iPhone', 'iPad', 'CrOS'] as const

export function compileNoCertificate({ mode, userAgents }: { readonly mode: NoCertificate['mode']; readonly userAgents: readonly string[] }): NoCertificate {
  const words = userAgents.map((word) => word.toLowerCase())
  return { mode, unmanageable: (userAgent) => words.some((word) => userAgent.toLowerCase().includes(word)) }
}

/** Whether to go on without a device, or why not. The User-Agent is a claim: it opens nothing that is not open to strangers. */
export function admitWithoutCertificate({ mode, unmanageable }: NoCertificate, userAgent: string, anonymousService: boolean): 'admitted' | 'no-certificate' | 'no-certificate-manageable' {
  if (mode === 'block') return 'no-certificate'
  if (mode === 'unmanageable' && !unmanageable(userAgent)) return 'no-certificate-manageable'
  return anonymousService ? 'admitted' : 'no-certificate'
}

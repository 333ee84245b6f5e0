// Purposes of certificates and what stands in them. How they are made and checked is in identity/.
import { z } from 'zod'
import { certificateSerial } from './ids.ts'
import { instant, lineOrEmpty } from './text.ts'

/**
 * Purpose → private extended key usage. The arc is `2.25.<UUID>` (ITU-T X.667), which needs no registration.
 * `agent` signs requests and opens tunnels; `browser` opens HTTPS services at a gateway and nothing else;
 * `gateway` signs a gateway's requests and serves its listener; `signing` signs documents.
 */
export const purposeOids = {
  agent: '2.25.263512498463155190370446187353012937821.1',
  browser: '2.25.263512498463155190370446187353012937821.2',
  gateway: '2.25.263512498463155190370446187353012937821.3',
  signing: '2.25.263512498463155190370446187353012937821.4',
} as const
export type Purpose = keyof typeof purposeOids
export const endpointPurpose = z.enum(['agent', 'browser'])

/** The DNS name in a gateway's certificate, by which agents verify it: `.internal` can't be had by anybody else. */
export const gatewayTlsName = (serial: string): string => `${serial.toLowerCase()}.gateway.sallyport.internal`

/** A certificate as the endpoint record lists it. */
export const certificateRecord = z.object({
  serial: certificateSerial, purpose: endpointPurpose,
  /** The OS user whose browser holds it; empty for the agent's own. */
  user: lineOrEmpty(256), notAfter: instant,
})
export type CertificateRecord = z.infer<typeof certificateRecord>
/** A PKCS #10 request, PEM. Its signature proves possession of the key. */
export const csrPem = z.string().max(4096).regex(/^-----BEGIN CERTIFICATE REQUEST-----[\sA-Za-z0-9+/=]+-----END CERTIFICATE REQUEST-----\s*$/)
export const certificatePem = z.string().max(8192)

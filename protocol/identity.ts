// Identity providers (OpenID Connect) and the users they vouch for. How one is asked and believed is elsewhere.
import { z } from 'zod'
import { hostName, instant, line, lineOrEmpty, unprintable } from './text.ts'

export const providerName = z.string().regex(/^[a-z0-9][a-z0-9-]{0,40}$/, 'lower-case letters, digits and hyphens, 41 at most')

/** An OpenID Connect issuer. Plain HTTP is for a provider on this very machine, as developers run one. */
export const issuer = z.string().max(256).refine((text) => {
  const url = URL.parse(text)
  const safe = url?.protocol === 'https:' || (url?.protocol === 'http:' && ['127.0.0.1', '[::1]', 'localhost'].includes(url.hostname))
  // What a parser leaves out or mends names another issuer than the provider's tokens do, and an empty query hides where the configuration is.
  return safe && /^https?:\/\//i.test(text) && !/[\s?#\\]/.test(text) && !unprintable.test(text) && url?.username === '' && url.password === ''
}, 'must be an https URL without query, as the provider names itself')

/** One identity provider, and how far its word goes. */
export const identityProvider = z.strictObject({
  name: providerName,
  issuer,
  /** Registered at the provider as a native application (RFC 8252): public, with PKCE. */
  clientId: line(256),
  /** Some providers want one of native applications too. Every agent gets it, so it protects nothing. */
  clientSecret: line(256).optional(),
  scopes: z.array(z.string().regex(/^[\x21\x23-\x5b\x5d-\x7e]{1,128}$/, 'must be a scope')).max(32).default(['openid', 'profile', 'email']),
  /** The claim of the ID token that lists groups. */
  groupsClaim: line(128).default('groups'),
  /** `verified` takes the e-mail only with `email_verified`; `always` where the organisation owns every address of this issuer. Elsewhere people can write any address into their account. */
  trustEmail: z.enum(['verified', 'always']).default('verified'),
  /** E-mails of these domains only are taken from it; absent: of all. With several providers, none can say that somebody is another's. */
  emailDomains: z.array(hostName).min(1).max(64).optional(),
  /** How long the provider's word counts from the moment that the person proved it. */
  sessionSeconds: z.number().int().min(300).max(2_592_000).default(43_200),
  /** The loopback port of the redirect `http://127.0.0.1:PORT/callback`, for providers that do not take any port. */
  redirectPort: z.number().int().min(1024).max(65_535).optional(),
})
export type IdentityProvider = z.infer<typeof identityProvider>

/** The user whom an identity provider vouched for; never what the device says. */
export const verifiedUser = z.strictObject({
  issuer: line(256), subject: line(256),
  email: z.email().max(254).optional(), name: lineOrEmpty(256).optional(), groups: z.array(line(256)).max(256).optional(),
  /** When the person proved it. */
  authenticatedAt: instant, expiresAt: instant.nullable(),
})
export type VerifiedUser = z.infer<typeof verifiedUser>

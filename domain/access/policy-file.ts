// The gateway administrator's YAML, as a closed schema: which services exist, and who may reach them. Reading text and matching are done beside it.
import { z } from 'zod'
import { issuer } from '../../protocol/identity.ts'
import { ownership } from '../../protocol/ownership.ts'
import { hostName, line, port } from '../../protocol/text.ts'
import { geoCondition } from './geo.ts'
import { UNMANAGEABLE } from './no-certificate.ts'
import { days, isTimeZone, readHours } from './schedule.ts'
import { filePath, serviceEntry } from './service-file.ts'

const tagList = z.array(line(128)).max(64).default([])
const schedule = z.strictObject({
  days: z.array(z.enum(days)).min(1).max(7).default([...days]),
  /** `08:00-18:00`, up to `24:00`; one that ends before it begins runs into the next day. */
  hours: z.array(z.string().refine((text) => readHours(text) !== null, 'must be hours like 08:00-18:00')).min(1).max(16).default(['00:00-24:00']),
  /** Named, because the hours of whoever stands at the door must not depend on where the gateway stands. */
  timeZone: line(64).refine(isTimeZone, 'must be a time zone like Europe/Berlin'),
})
const device = z.strictObject({
  ownership: z.array(ownership).min(1).max(2).optional(),
  onFabric: z.boolean().optional(),
  online: z.boolean().optional(),
})
const policy = z.strictObject({
  name: line(128),
  enabled: z.boolean().default(true),
  /** `report` tells in each decision what the policy would have decided, and changes nothing. */
  mode: z.enum(['enforce', 'report']).default('enforce'),
  services: z.array(line(64)).min(1).max(256),
  tags: z.strictObject({ all: tagList, any: tagList, none: tagList }).prefault({}),
  device: device.prefault({}),
  schedule: schedule.optional(),
  /** Where it connects from; what is not known holds for no country. */
  geo: geoCondition.optional(),
  /** An instant like 2026-12-31T18:00:00Z; from then on the policy is as if it were not there. */
  until: z.iso.datetime({ offset: true, error: 'must be an instant like 2026-12-31T18:00:00Z' }).optional(),
  /** Whom an identity provider vouched for, never the name that the device tells: all that is given of these must hold. Any of the users: e-mail, compared without case, or subject, to the letter. */
  users: z.array(line(256)).min(1).max(256).optional(),
  /** Any of them, as the identity provider names them, to the letter. */
  groups: z.array(line(256)).min(1).max(256).optional(),
  /** The identity provider, as it names itself. */
  issuer: issuer.optional(),
  /** The person proved it within so many seconds; when they are over, open sessions are cut. */
  authenticatedWithinSeconds: z.number().int().min(60).max(31_536_000).optional(),
  /** Anybody whom an identity provider vouched for; what is given above asks for that by itself. */
  verifiedUser: z.literal(true, { error: 'must be true, or be left out' }).optional(),
  action: z.enum(['allow', 'deny']),
})

const noCertificate = z.strictObject({
  /** `block` refuses; `anonymous` lets to anonymous services; `unmanageable` does so for kinds of devices without an agent, by their claim. */
  mode: z.enum(['block', 'anonymous', 'unmanageable']).default('block'),
  /** Words of a User-Agent by which such kinds are known. */
  userAgents: z.array(line(64)).min(1).max(64).default([...UNMANAGEABLE]),
})
const listener = z.strictObject({
  minimumTls: z.enum(['1.2', '1.3']).default('1.3'),
  /** Server certificates beside the one that the EMS issued, PEM files, chosen by the name the client asks for; read again when they change. */
  certificates: z.array(z.strictObject({ certificateFile: filePath, keyFile: filePath })).max(256).default([]),
  /** A certificate had from a public CA by ACME (RFC 8555), challenge `http-01`. */
  acme: z.strictObject({
    directory: z.url({ protocol: /^https$/, error: 'must be a URL like https://acme-v02.api.letsencrypt.org/directory' }),
    contact: z.email().optional(),
    hosts: z.array(hostName).min(1).max(64),
    termsOfServiceAgreed: z.literal(true, { error: 'must be true: the CA demands it' }),
    /** Trusts this CA (PEM file) for the directory itself, beside none other. */
    caFile: filePath.optional(),
    /** Where the CA's questions arrive: port 80 of each host, or what that is forwarded to. Open while a certificate is ordered. */
    challengePort: port.default(80),
  }).optional(),
})

const geo = z.strictObject({
  /** Addresses by country in MMDB form, like GeoLite2-Country.mmdb; read again when it changes. */
  databaseFile: filePath.optional(),
})

const refuseDoubles = (names: readonly string[], kind: string, context: z.RefinementCtx) => {
  names.forEach((name, index) => {
    if (names.indexOf(name) !== index) context.addIssue({ code: 'custom', path: [kind, index, 'name'], message: `another one above is named "${name}" too` })
  })
}

/** The whole file. Policies are ordered: the first that matches decides; none that matches denies. */
export const policyFile = z.strictObject({
  listener: listener.prefault({}),
  noCertificate: noCertificate.prefault({}),
  geo: geo.prefault({}),
  services: z.array(serviceEntry).max(1000),
  policies: z.array(policy).max(1000),
}).superRefine((file, context) => {
  const names = file.services.map(({ name }) => name)
  refuseDoubles(names, 'services', context)
  refuseDoubles(file.policies.map(({ name }) => name), 'policies', context)
  file.policies.forEach(({ services }, index) => services.forEach((name, at) => {
    if (!names.includes(name)) context.addIssue({ code: 'custom', path: ['policies', index, 'services', at], message: `no service is named "${name}"` })
  }))
})
export type PolicyFile = z.output<typeof policyFile>

/** JSON schema (draft 2020-12) of the file, for editors. What refers to another part of the file is checked by reading it, not by this. */
export const policyFileSchema = (): unknown => z.toJSONSchema(policyFile, { io: 'input', unrepresentable: 'any' })

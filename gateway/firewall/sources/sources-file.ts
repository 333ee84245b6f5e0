// The administrator's YAML that names who else on this host sees devices. A closed schema: what it does not name is a mistake.
import { parseDocument } from 'yaml'
import { z } from 'zod'
import { uid } from '../../../protocol/ids.ts'

const path = z.string().max(4096).regex(/^\/[^\0\r\n]*$/, 'must be a whole path, from /')
const word = z.string().min(1).max(4096).regex(/^[^\0\r\n]*$/, 'must be one line')
const uidList = z.record(z.string().regex(/^[A-Za-z0-9+/]{43}=$/, 'must be the public key of a peer'), uid)

const leases = z.strictObject({
  /** What wrote the file. */
  format: z.enum(['dnsmasq', 'isc-dhcpd', 'kea']),
  file: path,
})
const wireguard = z.strictObject({
  interface: z.string().regex(/^[A-Za-z0-9_=+.-]{1,15}$/, 'must be the name of an interface'),
  /** Public key of a peer → UID of the endpoint that holds it. A peer that is not named is whoever claims its address. */
  peers: uidList.default({}),
})
/** Clients of another VPN server: a file that it keeps, or a command that lists them. */
const vpn = z.union([
  z.strictObject({ name: z.string().regex(/^[a-z0-9-]{1,15}$/, 'must be 1 to 15 of a-z, 0-9 and -'), file: path }),
  z.strictObject({ name: z.string().regex(/^[a-z0-9-]{1,15}$/, 'must be 1 to 15 of a-z, 0-9 and -'), command: z.tuple([path], word), everySeconds: z.number().int().min(5).max(300).default(15) }),
])

export const sightSources = z.strictObject({
  leases: z.array(leases).max(16).default([]),
  wireguard: z.array(wireguard).max(16).default([]),
  vpn: z.array(vpn).max(16).default([]),
}).superRefine(({ leases: files, wireguard: interfaces, vpn: others }, context) => {
  const names = [...files.map(({ file }, index) => ['leases', index, file] as const), ...interfaces.map((each, index) => ['wireguard', index, each.interface] as const), ...others.map(({ name }, index) => ['vpn', index, name] as const)]
  for (const [kind, index, name] of names) if (names.some(([otherKind, other, same]) => otherKind === kind && same === name && other < index)) context.addIssue({ code: 'custom', path: [kind, index], message: 'is named above already' })
})
export type SightSources = z.output<typeof sightSources>
export type SourcesReading = { readonly ok: true; readonly sources: SightSources } | { readonly ok: false; readonly errors: readonly string[] }

const MAX_CHARACTERS = 1_000_000

/** Nothing is taken over of a file that has a mistake. */
export function readSources(text: string): SourcesReading {
  if (text.length > MAX_CHARACTERS) return { ok: false, errors: [`is longer than ${MAX_CHARACTERS} characters`] }
  const document = parseDocument(text, { uniqueKeys: true })
  if (document.errors.length > 0) return { ok: false, errors: document.errors.map(({ message }) => message) }
  let value: unknown
  try {
    value = document.toJS({ maxAliasCount: 100 })
  } catch (cause) {
    return { ok: false, errors: [cause instanceof Error ? cause.message : String(cause)] }
  }
  const parsed = sightSources.safeParse(value)
  return parsed.success ? { ok: true, sources: parsed.data } : { ok: false, errors: parsed.error.issues.map(({ path: where, message }) => `${where.map(String).join('.')} ${message}`.trim()) }
}

/** JSON schema (draft 2020-12) of the file, for editors. */
export const sourcesSchema = (): unknown => z.toJSONSchema(sightSources, { io: 'input', unrepresentable: 'any' })

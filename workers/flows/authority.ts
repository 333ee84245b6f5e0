// The EMS's CA and document signer: made by the first request that needs them, kept encrypted, signed with only what was read back.
import { desc, eq } from 'drizzle-orm'
import type { BatchItem } from 'drizzle-orm/batch'
import { createAuthority, issueCertificate, openAuthority, type Authority } from '../../identity/authority.ts'
import { trustAuthority, type TrustedAuthority } from '../../identity/certificate.ts'
import { signDocument, type Signer } from '../../identity/document.ts'
import { copyBytes, fromPem, toHex, utf8 } from '../../identity/encoding.ts'
import { exportPrivateKey, exportPublicKey, generateKey, importPrivateKey } from '../../identity/keys.ts'
import { unwrap, wrap } from '../../identity/wrapping.ts'
import type { DocumentKind, DocumentPayload } from '../../protocol/documents.ts'
import { Fault } from '../../protocol/faults.ts'
import { authorities, ems } from '../../schema/authority.ts'
import type { Context } from '../context.ts'

type AuthorityRow = typeof authorities.$inferSelect
const SIGNER_DAYS = 3640

interface Known {
  readonly rows: readonly AuthorityRow[]
  readonly trusted: readonly TrustedAuthority[]
  /** The highest slot there is, of CAs that have ended too. */
  readonly top: number
  readonly at: number
}
/** How long an isolate believes what it read: a CA made elsewhere is known here this much later. That there is none is believed for a second. */
const BELIEVED_MS = 10_000
const NONE_BELIEVED_MS = 1_000
let known: Known | null = null
let identity: { readonly serial: string; readonly fabricId: string; readonly at: number } | null = null
const opened = new Map<string, { authority: Authority; signer: Signer }>()

async function readAll(context: Context, believedMs = BELIEVED_MS): Promise<Known> {
  const now = context.now()
  if (known !== null && now - known.at < Math.min(believedMs, known.rows.length === 0 ? NONE_BELIEVED_MS : believedMs)) return known
  // Whoever comes while this one reads goes on with what is known: a flood makes one read, not one each.
  if (known !== null) known = { ...known, at: now }
  const all = await context.db.select().from(authorities).orderBy(desc(authorities.slot))
  const rows = all.filter(({ notAfter }) => notAfter > now)
  known = { rows, trusted: await Promise.all(rows.map(({ certificatePem }) => trustAuthority(certificatePem))), top: all[0]?.slot ?? 0, at: now }
  return known
}
/** After a change in this isolate: read anew. */
export const forgetAuthorities = (): void => {
  known = null
  identity = null
  opened.clear()
}

/** Every CA that is believed now; empty before the first was made. `believedMs`: how old what this isolate read may be. */
export const trustedAuthorities = async (context: Context, believedMs = BELIEVED_MS): Promise<readonly TrustedAuthority[]> => (await readAll(context, believedMs)).trusted

/** The rows, the active first. The first CA is made when there is none, and another when all have ended. */
export async function authorityRows(context: Context): Promise<readonly [AuthorityRow, ...AuthorityRow[]]> {
  const live = async () => (await readAll(context)).rows.filter(({ notAfter }) => notAfter > context.now())
  if ((await live()).length === 0) {
    requireKeys(context)
    // That there is none may have been read a while ago.
    known = null
    const { rows, top } = await readAll(context)
    if (rows.length === 0) await makeAuthority(context, top + 1)
  }
  const [active, ...others] = await live()
  if (active === undefined) throw new Error('the CA that was made can not be read back')
  return [active, ...others]
}

/**
 * Makes the CA of a slot unless another request was first; whoever was first, everybody reads that one back.
 * @param also statements of the same batch: a CA that nobody is told of would sign what nobody believes
 */
export async function makeAuthority(context: Context, slot: number, also: readonly BatchItem<'sqlite'>[] = []): Promise<void> {
  const keys = requireKeys(context)
  const now = context.now()
  const authority = await createAuthority({ name: 'Sallyport EMS CA', now })
  const signerKeys = await generateKey(true)
  const signer = await issueCertificate({ authority, publicKeySpki: await exportPublicKey(signerKeys.publicKey), purpose: 'signing', commonName: 'Sallyport document signer', now, days: SIGNER_DAYS })
  const id = crypto.randomUUID()
  await context.db.batch([context.db.insert(authorities).values({
    slot, id, certificatePem: authority.certificatePem, pin: authority.pin, notAfter: authority.notAfter, createdAt: now, signerCertificatePem: signer.pem,
    wrappedKey: await wrap(keys, utf8(await exportPrivateKey(authority.privateKey)), `ca/${id}`),
    wrappedSignerKey: await wrap(keys, utf8(await exportPrivateKey(signerKeys.privateKey)), `signer/${id}`),
  }).onConflictDoNothing(), ...also])
  forgetAuthorities()
}

const requireKeys = ({ config }: Context) => {
  if (config.wrappingKeys.current === null) throw new Fault('ca_locked', 'The CA is locked: set the secret WRAPPING_KEYS.')
  return config.wrappingKeys
}

async function open(context: Context, row: AuthorityRow): Promise<{ authority: Authority; signer: Signer }> {
  const held = opened.get(row.id)
  if (held !== undefined) return held
  const keys = requireKeys(context)
  const [key, signerKey] = await Promise.all([unwrap(keys, row.wrappedKey, `ca/${row.id}`), unwrap(keys, row.wrappedSignerKey, `signer/${row.id}`)])
  if (key === null || signerKey === null) throw new Fault('ca_locked', 'The CA is locked: the wrapping key it was stored under is not among WRAPPING_KEYS.')
  const text = new TextDecoder()
  const made = {
    authority: await openAuthority(row.certificatePem, (await importPrivateKey(text.decode(key), false)).privateKey),
    signer: { privateKey: (await importPrivateKey(text.decode(signerKey), false)).privateKey, certificateDer: copyBytes(fromPem('CERTIFICATE', row.signerCertificatePem) ?? new Uint8Array()) },
  }
  opened.set(row.id, made)
  return made
}

/** The CA that issues now. */
export const activeAuthority = async (context: Context): Promise<Authority> => (await open(context, (await authorityRows(context))[0])).authority

/** Every CA that is valid now, the active first. */
export const everyAuthority = async (context: Context): Promise<Authority[]> => await Promise.all((await authorityRows(context)).map(async (row) => (await open(context, row)).authority))

/**
 * Kinds that a device which was away during a roll-over must be able to believe: the list of CAs, and that it is no longer managed.
 * They are signed under the oldest CA that is still trusted, for every device knows that one; a new signer is introduced by it.
 */
const signedByOldest: ReadonlySet<DocumentKind> = new Set<DocumentKind>(['authorities', 'deregistration'])

/** Signs a document, version = now, by the signer of the active CA (see {@link signedByOldest}), or of the one with this pin. */
export async function signFor<K extends DocumentKind>(context: Context, kind: K, to: string, body: DocumentPayload<K>['body'], options: { pin?: string; version?: number } = {}): Promise<string> {
  const rows = await authorityRows(context)
  const row = options.pin === undefined ? rows.at(signedByOldest.has(kind) ? -1 : 0) : rows.find(({ pin }) => pin === options.pin)
  if (row === undefined) throw new Fault('not_found', 'This EMS has no CA with that pin.')
  return await signDocument({ kind, to, version: options.version ?? context.now(), body }, (await open(context, row)).signer)
}

/** The EMS's own serial and fabric id, made on first need. */
export async function emsIdentity(context: Context): Promise<{ readonly serial: string; readonly fabricId: string }> {
  const now = context.now()
  if (identity !== null && now - identity.at < BELIEVED_MS) return identity
  const find = async () => (await context.db.select().from(ems).where(eq(ems.id, 1)))[0]
  let kept = await find()
  if (kept === undefined) {
    await context.db.insert(ems).values({ id: 1, serial: `SPEMS${toHex(crypto.getRandomValues(new Uint8Array(6))).toUpperCase()}`, fabricId: crypto.randomUUID(), createdAt: now }).onConflictDoNothing()
    kept = await find()
  }
  if (kept === undefined) throw new Error('the identity that was made can not be read back')
  identity = { serial: kept.serial, fabricId: kept.fabricId, at: now }
  return identity
}

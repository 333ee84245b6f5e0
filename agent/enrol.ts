// Enrolment: an invitation becomes a UID, a certificate and the first documents. The EMS proves itself by the invitation's pin before it is told anything.
import { createHash } from 'node:crypto'
import { hostname } from 'node:os'
import { createCsr } from '../identity/request.ts'
import { trustAuthority } from '../identity/certificate.ts'
import { createControlClient } from '../node/control-client.ts'
import { introduceEms } from '../node/introduce.ts'
import { keyInFile, removePrivateFile } from '../node/key-store.ts'
import type { Log } from '../node/logging.ts'
import { Fault } from '../protocol/faults.ts'
import { PROTOCOL } from '../protocol/ids.ts'
import { INVITATION_PREFIX, readInvitation, type Invitation } from '../protocol/invitation.ts'
import { enrol } from '../protocol/operations/public.ts'
import { clearLeftovers, enrolmentKey, readIdentity, readLetGo, stateFiles, writeIdentity, type AgentIdentity } from './certificates/identity-store.ts'
import { checkIssued } from './certificates/renew.ts'
import { osTypeHere } from './posture/portable.ts'
import { asLine } from './posture/read.ts'
import { openDocumentStore } from './profile/document-store.ts'
import { lockState } from './state-lock.ts'
import { AGENT_VERSION } from './version.ts'

export interface EnrolOptions {
  readonly invitation: string
  readonly stateDirectory: string
  readonly tlsCa: readonly string[]
  readonly ownerUid: number
  readonly now: () => number
  readonly log: Log
}

/**
 * Enrols this machine. Throws a `Fault`: `invalid` for a damaged invitation, `conflict` when it is enrolled already,
 * `bad_certificate` when whoever answers does not hold the pinned CA, and what the EMS refuses.
 * The key is on disk before it is used: repeating after a lost reply gives the same UID.
 */
export async function enrolAgent(options: EnrolOptions): Promise<AgentIdentity> {
  const read = readInvitation(INVITATION_PREFIX, options.invitation.trim())
  if (read === null) throw new Fault('invalid', 'This is not an invitation, or it was damaged when it was copied. Copy it again, whole: it begins with sp1.')
  const lock = await lockState(options.stateDirectory)
  try {
    return await enrolLocked(options, read)
  } finally {
    lock.release()
  }
}

async function enrolLocked({ stateDirectory, tlsCa, ownerUid, now, log }: EnrolOptions, invitation: Invitation): Promise<AgentIdentity> {
  await clearLeftovers(stateDirectory)
  const already = await readIdentity(stateDirectory)
  const letGo = await readLetGo(stateDirectory)
  if (already !== null && letGo?.uid !== already.uid) throw new Fault('conflict', `This machine is enrolled already, as ${already.uid} at ${already.ems}; only an administrator there can deregister it.`)
  const files = stateFiles(stateDirectory)
  // One key per invitation: an EMS that refused must not recognise the key at the next.
  const keyFile = enrolmentKey(stateDirectory, createHash('sha256').update(invitation.code).digest('hex'))
  const client = createControlClient({ ems: invitation.ems, tlsCa, now, log })
  try {
    const introduced = await introduceEms(client, { ems: invitation.ems, pin: invitation.pin })
    const keys = await keyInFile(keyFile)
    const reply = await client.call(enrol, {
      body: { invitation: invitation.code, csr: await createCsr(keys, 'agent'), hostName: asLine(hostname(), 253) || 'localhost', os: osTypeHere(), agentVersion: AGENT_VERSION, protocol: PROTOCOL },
    })
    // TLS may end at a stranger whom the machine trusts: by the EMS's own instant only documents are dated, all else is verified.
    const emsNow = () => reply.emsTime
    const authorities = await Promise.all(introduced.certificates.map((pem) => trustAuthority(pem)))
    await checkIssued(reply.certificate, { uid: reply.uid, publicKey: keys.publicKey, authorities, now: emsNow() })
    await removePrivateFile(files.documents)
    const documents = await openDocumentStore({ file: files.documents, uid: reply.uid, now: emsNow })
    await documents.believe(introduced.certificates)
    for (const document of [reply.authorities, reply.licence, reply.rules, ...(reply.profile === null ? [] : [reply.profile])]) {
      const taken = await documents.take(document)
      if (!taken.ok) throw new Fault('bad_certificate', `The EMS sent a document that is not acceptable (${taken.reason})`)
    }
    // A sequence of another enrolment would only be behind or ahead; it goes before the identity that would be reported under it.
    await removePrivateFile(files.telemetry)
    const identity = await writeIdentity(stateDirectory, {
      uid: reply.uid, ems: invitation.ems, pin: invitation.pin, enrolledAt: emsNow(), ownerUid, tlsCa: [...tlsCa], certificatePem: reply.certificate, privateKeyPem: keys.pem,
    })
    for (const spent of [keyFile, files.renewing, files.letGo]) await removePrivateFile(spent)
    log.info({ event: 'enrolled', uid: identity.uid, ems: identity.ems }, 'This machine is enrolled.')
    return identity
  } finally {
    await client.close()
  }
}

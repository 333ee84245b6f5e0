// Enrolment: the EMS proves itself by the invitation's pin, then the invitation is spent. The key is on disk before anything is sent, so a lost reply is asked for again.
import { hostname } from 'node:os'
import { createCsr } from '../identity/request.ts'
import { createControlClient } from '../node/control-client.ts'
import { introduceEms } from '../node/introduce.ts'
import { keyInFile, readJson, writeJson } from '../node/key-store.ts'
import type { Log } from '../node/logging.ts'
import { Fault } from '../protocol/faults.ts'
import { PROTOCOL } from '../protocol/ids.ts'
import { INVITATION_PREFIX, readInvitation } from '../protocol/invitation.ts'
import { enrol } from '../protocol/operations/public.ts'
import { osTypeHere } from './posture/portable.ts'
import { asLine } from './posture/read.ts'
import { enrolment, filesIn, type Enrolment } from './state.ts'
import { AGENT_VERSION } from './version.ts'

/** Spends an invitation. Throws a Fault that says what to do when it is refused. */
export async function enrolDevice(options: { invitation: string; directory: string; tlsCa: readonly string[]; ownerUid: number; now: () => number; log: Log }): Promise<Enrolment> {
  const files = filesIn(options.directory)
  const kept = await readJson(files.enrolment, enrolment)
  if (kept !== null) throw new Fault('conflict', `This device is already enrolled with ${kept.ems} as ${kept.uid}; its administrator deregisters it there.`)
  const invitation = readInvitation(INVITATION_PREFIX, options.invitation.trim())
  if (invitation === null) throw new Fault('invalid', 'That is not an invitation: it begins with "sp1." and must be copied whole.')
  const client = createControlClient({ ems: invitation.ems, tlsCa: options.tlsCa, now: options.now, log: options.log })
  try {
    await introduceEms(client, invitation)
    const keys = await keyInFile(files.key)
    const given = await client.call(enrol, {
      body: { invitation: invitation.code, csr: await createCsr(keys, 'agent'), hostName: asLine(hostname(), 253) || 'unnamed', os: osTypeHere(), agentVersion: AGENT_VERSION, protocol: PROTOCOL },
    })
    const made: Enrolment = { ems: invitation.ems, pin: invitation.pin, uid: given.uid, certificate: given.certificate, tlsCa: [...options.tlsCa], ownerUid: options.ownerUid }
    await writeJson(files.documents, { licence: given.licence, rules: given.rules, authorities: given.authorities, ...(given.profile === null ? {} : { profile: given.profile }) })
    await writeJson(files.enrolment, made)
    return made
  } finally {
    await client.close()
  }
}

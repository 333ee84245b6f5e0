// A simulated laptop: really enrolled, its reports really signed and sent over the wire. Only its facts are made up.
import canonicalize from 'canonicalize'
import { copyBytes, fromPem, utf8, type Bytes } from '../identity/encoding.ts'
import { exportPrivateKey, generateKey, sha256Hex } from '../identity/keys.ts'
import { createCsr } from '../identity/request.ts'
import { createControlClient, type ControlClient } from '../node/control-client.ts'
import { silentLog } from '../node/logging.ts'
import type { SectionName, Sections } from '../protocol/facts.ts'
import { Fault } from '../protocol/faults.ts'
import { INVITATION_PREFIX, readInvitation } from '../protocol/invitation.ts'
import type { Call } from '../protocol/operation.ts'
import { report } from '../protocol/operations/endpoint.ts'
import { enrol } from '../protocol/operations/public.ts'
import { posture } from './posture.ts'

type ReportBody = Call<typeof report>['body']
/** How often a report is sent again. */
const TRIES = 20

export interface Device {
  readonly uid: string
  readonly client: ControlClient
  readonly credentials: { readonly certificatePem: string; readonly privateKeyPem: string; readonly certificateDer: Bytes; readonly privateKey: CryptoKey }
  /** The body of the next report with these sections; counted as sent. */
  reportOf(sections: Partial<Sections>): Promise<ReportBody>
  /** The next report: the answer to the agent-side condition that gives the tag. */
  flipOf(on: boolean): Promise<ReportBody>
  /** Sends a report made by the two above. */
  send(body: ReportBody): Promise<void>
  /** Reports everything, with the tag. */
  introduce(): Promise<void>
  close(): Promise<void>
}

interface Enrolling { readonly ems: string; readonly tlsCaPem: string; readonly invitation: string; /** Key of the condition that the device answers. */ readonly conditionKey: string }

/** Enrols a device; it has reported nothing yet. */
export async function enrolDevice({ ems, tlsCaPem, invitation, conditionKey }: Enrolling): Promise<Device> {
  const keys = await generateKey(true)
  let certificateDer: Bytes | null = null
  const client = createControlClient({ ems, tlsCa: [tlsCaPem], now: Date.now, log: silentLog(), identity: () => (certificateDer === null ? null : { privateKey: keys.privateKey, certificateDer }) })
  const read = readInvitation(INVITATION_PREFIX, invitation)
  if (read === null) throw new Error('the invitation can not be read')
  const { uid, certificate } = await client.call(enrol, { body: { invitation: read.code, csr: await createCsr(keys, 'laptop'), hostName: 'laptop', os: 'linux', agentVersion: '0.1.0', protocol: '7.0.0' } })
  const der = copyBytes(fromPem('CERTIFICATE', certificate) ?? new Uint8Array())
  certificateDer = der
  const hashes: { [S in SectionName]?: string } = {}
  let sequence = 0

  const reportOf = async (sections: Partial<Sections>): Promise<ReportBody> => {
    for (const [name, value] of Object.entries(sections)) hashes[name as SectionName] = await sha256Hex(utf8(canonicalize(value) ?? ''))
    if (Object.keys(sections).length > 0) sequence++
    return { sequence, sections, hashes: { ...hashes } }
  }
  const flipOf = (on: boolean) => reportOf({ verdicts: { answers: { [conditionKey]: { value: on ? 'true' : 'false', seen: on ? 'running' : 'not running', at: Date.now() } } } })
  const send = async (body: ReportBody) => {
    for (let tries = 0; ; tries++) {
      try {
        const { wanted } = await client.call(report, { body })
        if (wanted.length > 0) throw new Error(`the EMS does not hold ${wanted.join()}`)
        return
      } catch (cause) {
        // Taken, but a gateway has not acknowledged it in time: the same again writes nothing and tells it.
        if (!(cause instanceof Fault && cause.code === 'busy') || tries === TRIES) throw cause
      }
    }
  }
  return {
    uid, client, credentials: { certificatePem: certificate, privateKeyPem: await exportPrivateKey(keys.privateKey), certificateDer: der, privateKey: keys.privateKey },
    reportOf, flipOf, send,
    async introduce() {
      await send(await reportOf(posture))
      await send(await flipOf(true))
    },
    close: () => client.close(),
  }
}

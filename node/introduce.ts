// The first word with an EMS: it must prove that it holds the pinned CA before it is told anything.
import { openDocument } from '../identity/document.ts'
import { trustAuthority } from '../identity/certificate.ts'
import { newChallenge } from '../identity/socket-challenge.ts'
import { Fault } from '../protocol/faults.ts'
import { introduce } from '../protocol/operations/public.ts'
import { decodePayload } from '../identity/document-payload.ts'
import type { ControlClient } from './control-client.ts'

/**
 * Sends a challenge and checks the answer: signed by a key that the CA with this pin certified, for this challenge, for the address asked.
 * @param pin SHA-256 of the CA certificate's DER, lower-case hex
 * @returns every CA that the EMS trusts now, the pinned one among them
 */
export async function introduceEms(client: ControlClient, options: { ems: string; pin: string }): Promise<{ certificates: string[]; emsSerial: string }> {
  const challenge = newChallenge()
  const { document } = await client.call(introduce, { body: { challenge, pin: options.pin } })
  const refuse = (why: string): never => {
    throw new Fault('bad_certificate', `The server at ${options.ems} is not the EMS that the invitation names: ${why}.`)
  }
  const offered = await Promise.all(decodePayload(document).certificates.map((pem) => trustAuthority(pem).catch(() => refuse('it offered something that is no CA'))))
  const pinned = offered.find((authority) => authority.pin === options.pin) ?? refuse('it does not have the pinned CA')
  const opened = await openDocument(document, { kind: 'introduction', to: '*', authorities: [pinned], now: client.emsNow() })
  if (!opened.ok) return refuse(`its proof is ${opened.reason}`)
  const { body } = opened.payload
  if (body.challenge !== challenge) return refuse('its proof answers another challenge')
  // A stranger in between could pass the challenge on to the real EMS: the proof names the address it was asked under.
  if (body.authority !== new URL(options.ems).host) return refuse('its proof was made for another address')
  return { certificates: body.certificates, emsSerial: body.emsSerial }
}

// Opening a websocket: 32 random bytes that must come back signed before anything else is said. A recorded opening is worth nothing.
import { SOCKET_CHALLENGE_CONTEXT } from '../protocol/signature.ts'
import type { Purpose } from '../protocol/certificates.ts'
import { copyBytes, fromBase64, toBase64, toHex, utf8, type Bytes } from './encoding.ts'
import { SIGNING_ALGORITHM } from './keys.ts'
import { verifyWithKey } from './certificate.ts'

export const newChallenge = (): string => toHex(crypto.getRandomValues(new Uint8Array(32)))

const toSign = (challenge: string, purpose: Purpose) => utf8(`${SOCKET_CHALLENGE_CONTEXT}\n${challenge}\n${purpose}`)

/** The signature (IEEE P1363) in base64. */
export async function answerChallenge(privateKey: CryptoKey, challenge: string, purpose: Purpose): Promise<string> {
  return toBase64(copyBytes(await crypto.subtle.sign(SIGNING_ALGORITHM, privateKey, toSign(challenge, purpose))))
}

export async function verifyAnswer(publicKeySpki: Bytes, challenge: string, purpose: Purpose, answer: string): Promise<boolean> {
  const signature = fromBase64(answer)
  return signature?.length === 64 && await verifyWithKey(publicKeySpki, toSign(challenge, purpose), signature)
}

// A certificate for one SSH session or a few: asked of the running agent, written where ssh reads it.
import { writePrivateFile } from '../../node/key-store.ts'
import { sshCertificateAnswer, type Question, type SshCertificateAnswer } from '../local-status.ts'
import { denialText } from '../tunnel/denial.ts'
import { authorityOf, type Target } from '../tunnel/target.ts'

export type Ask = (question: Question) => Promise<unknown>
export type Issued = Extract<SshCertificateAnswer, { outcome: 'issued' }>

export const askCertificate = async (ask: Ask, { host, port }: Target, publicKey: string): Promise<SshCertificateAnswer> => sshCertificateAnswer.parse(await ask({ ask: 'ssh-certificate', host, port, publicKey }))

/** Why there is no certificate, in words; null: there is one. */
export function whyNone(answer: SshCertificateAnswer, target: Target): string | null {
  switch (answer.outcome) {
    case 'issued': return null
    case 'none': return `The gateway gives no SSH certificates for ${authorityOf(target)}: the keys of your own are used there.`
    case 'unprotected': return `${authorityOf(target)} is behind no gateway of this machine's profile: plain ssh goes there directly.`
    case 'refused': return denialText(answer.denial).trimEnd()
    default: return answer.message
  }
}

/** How a host stands in a file of known hosts. */
const nameIn = ({ host, port }: Target): string => (port === 22 ? host : `[${host}]:${port}`)
/** Lines of a file of known hosts; empty where the gateway was told no keys. */
export const knownHosts = ({ reply }: Issued, target: Target): string => reply.hostKeys.map((key) => `${nameIn(target)} ${key}\n`).join('')

export const writeCertificate = (path: string, { reply }: Issued): Promise<void> => writePrivateFile(path, `${reply.certificate.trim()}\n`)

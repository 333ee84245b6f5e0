// A whole gateway in a directory of its own, a protected service behind it, and a laptop that knocks.
import { mkdtemp, writeFile } from 'node:fs/promises'
import { connect as connectTcp, createServer, type AddressInfo, type Server } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connect } from 'node:tls'
import { issueCertificate, type Authority } from '../../../identity/authority.ts'
import { exportPrivateKey, exportPublicKey, generateKey } from '../../../identity/keys.ts'
import { gatewayTlsName } from '../../../protocol/certificates.ts'
import type { Gateway } from '../../../gateway/start.ts'

export interface Knocker { readonly certificatePem: string; readonly privateKeyPem: string; readonly serial: string }

/** A laptop's certificate, as the EMS issues it. */
export async function newKnocker(authority: Authority, uid: string): Promise<Knocker> {
  const keys = await generateKey(true)
  const issued = await issueCertificate({ authority, publicKeySpki: await exportPublicKey(keys.publicKey), purpose: 'agent', commonName: uid, now: Date.now() })
  return { certificatePem: issued.pem, privateKeyPem: await exportPrivateKey(keys.privateKey), serial: issued.serial }
}

/** Something that says `hello` to whoever reaches it. */
export async function startService(): Promise<{ port: number; server: Server; close(): Promise<void> }> {
  const server = createServer((socket) => {
    socket.on('error', () => socket.destroy())
    socket.write('hello')
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return { port: (server.address() as AddressInfo).port, server, close: () => new Promise((resolve) => server.close(() => resolve())) }
}

/** A directory with a policy file that lets devices with the tag through to the service. */
export async function gatewayDirectory(servicePort: number, tag: string): Promise<{ stateDirectory: string; policiesFile: string }> {
  const directory = await mkdtemp(join(tmpdir(), 'gateway-'))
  const policiesFile = join(directory, 'policies.yaml')
  await writeFile(policiesFile, policiesText(servicePort, tag))
  return { stateDirectory: join(directory, 'state'), policiesFile }
}
export const policiesText = (servicePort: number, tag: string): string => `
services:
  - name: greeter
    protocol: tcp
    match: [greeter.test]
    ports: [7000]
    upstream: 127.0.0.1:${servicePort}
policies:
  - name: healthy devices
    services: [greeter]
    tags: { all: [${tag}] }
    action: allow
`

/** CONNECT to the service over mutual TLS. @returns the status, and what was read after it */
export function knock(gateway: Pick<Gateway, 'port' | 'serial'>, knocker: Knocker, authorityPem: string): Promise<{ status: number; text: string }> {
  return new Promise((resolve, reject) => {
    const socket = connect({
      socket: connectTcp(gateway.port, '127.0.0.1'), servername: gatewayTlsName(gateway.serial), ca: authorityPem, cert: knocker.certificatePem, key: knocker.privateKeyPem, ALPNProtocols: ['http/1.1'],
    })
    let text = ''
    const finish = () => {
      resolve({ status: Number(/^HTTP\/1\.1 (\d+)/.exec(text)?.[1] ?? 0), text })
      socket.destroy()
    }
    socket.on('secureConnect', () => socket.write('CONNECT greeter.test:7000 HTTP/1.1\r\nHost: greeter.test:7000\r\n\r\n'))
    socket.on('data', (chunk: Buffer) => {
      text += chunk.toString()
      if (text.endsWith('hello')) finish()
    })
    socket.on('end', finish)
    socket.on('error', reject)
    socket.setTimeout(30_000, () => {
      socket.destroy()
      reject(new Error(`nothing came; until then: ${text}`))
    })
  })
}

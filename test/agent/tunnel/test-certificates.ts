// Certificates for the far side, made by openssl: an authority, gateways and agents with the purposes of the contract.
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gatewayTlsName, purposeOids, type Purpose } from '../../../protocol/certificates.ts'

export interface Issued { certificatePem: string; privateKeyPem: string }
export interface TestAuthority {
  pem: string
  gateway(serial: string, purpose?: Purpose): Issued
  agent(commonName: string): Issued
}

export function createTestAuthority(name: string): TestAuthority {
  const directory = mkdtempSync(join(tmpdir(), 'tunnel-ca-'))
  const openssl = (...args: string[]) => execFileSync('openssl', args, { cwd: directory, stdio: ['ignore', 'pipe', 'pipe'] })
  const newKey = (file: string) => openssl('ecparam', '-name', 'prime256v1', '-genkey', '-noout', '-out', file)
  newKey('ca.key')
  openssl('req', '-x509', '-new', '-key', 'ca.key', '-subj', `/CN=${name}`, '-days', '30', '-out', 'ca.pem')
  const caKey = readFileSync(join(directory, 'ca.key'))
  const pem = readFileSync(join(directory, 'ca.pem'), 'utf8')
  rmSync(directory, { recursive: true })

  function issue(commonName: string, extensions: string): Issued {
    const room = mkdtempSync(join(tmpdir(), 'tunnel-leaf-'))
    const run = (...args: string[]) => execFileSync('openssl', args, { cwd: room, stdio: ['ignore', 'pipe', 'pipe'] })
    writeFileSync(join(room, 'ca.key'), caKey)
    writeFileSync(join(room, 'ca.pem'), pem)
    writeFileSync(join(room, 'ext'), extensions)
    run('ecparam', '-name', 'prime256v1', '-genkey', '-noout', '-out', 'key')
    run('req', '-new', '-key', 'key', '-subj', `/CN=${commonName}`, '-out', 'csr')
    run('x509', '-req', '-in', 'csr', '-CA', 'ca.pem', '-CAkey', 'ca.key', '-days', '10', '-extfile', 'ext', '-out', 'pem')
    const issued = { certificatePem: readFileSync(join(room, 'pem'), 'utf8'), privateKeyPem: readFileSync(join(room, 'key'), 'utf8') }
    rmSync(room, { recursive: true })
    return issued
  }
  return {
    pem,
    gateway: (serial, purpose = 'gateway') => issue(serial, `subjectAltName=DNS:${gatewayTlsName(serial)}\nextendedKeyUsage=serverAuth,clientAuth,${purposeOids[purpose]}\n`),
    agent: (commonName) => issue(commonName, `extendedKeyUsage=clientAuth,${purposeOids.agent}\n`),
  }
}

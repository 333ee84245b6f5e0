import { execFileSync, spawn } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { Resolver } from 'node:dns/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connect } from 'node:tls'
import { once } from 'node:events'
import { afterEach, describe, expect, it } from 'vitest'
import { freePort } from '../../../start/free-port.ts'
import { heldClock, cleanUp, later, startGate, until } from './gate-under-test.ts'

afterEach(cleanUp)

/** Debian's test CA for ACME, with its own DNS: every name is this machine. */
async function startPebble() {
  const directory = mkdtempSync(join(tmpdir(), 'pebble-'))
  const [port, management, challenge, dns, dnsManagement] = await Promise.all(Array.from({ length: 5 }, () => freePort()))
  const key = join(directory, 'key.pem')
  const certificate = join(directory, 'cert.pem')
  execFileSync('openssl', ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2', '-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1', '-keyout', key, '-out', certificate], { stdio: 'ignore' })
  writeFileSync(join(directory, 'config.json'), JSON.stringify({ pebble: { listenAddress: `127.0.0.1:${port}`, managementListenAddress: `127.0.0.1:${management}`, certificate, privateKey: key, httpPort: challenge, tlsPort: 1, ocspResponderURL: '', externalAccountBindingRequired: false } }))
  const names = spawn('pebble-challtestsrv', ['-defaultIPv6', '', '-dns01', `127.0.0.1:${dns}`, '-management', `127.0.0.1:${dnsManagement}`, '-http01', '', '-https01', '', '-tlsalpn01', ''], { stdio: 'ignore' })
  const ca = spawn('pebble', ['-config', join(directory, 'config.json'), '-dnsserver', `127.0.0.1:${dns}`], { stdio: 'ignore', env: { ...process.env, PEBBLE_VA_NOSLEEP: '1', PEBBLE_WFE_NONCEREJECT: '0' } })
  later(() => {
    ca.kill()
    names.kill()
    rmSync(directory, { recursive: true })
  })
  await until(async () => {
    const socket = connect({ host: '127.0.0.1', port: port ?? 0, rejectUnauthorized: false })
    const open = await new Promise<boolean>((resolve) => {
      socket.once('secureConnect', () => resolve(true))
      socket.once('error', () => resolve(false))
    })
    socket.destroy()
    return open
  })
  // An order that failed for want of names would be tried again by a clock that stands.
  const resolver = new Resolver({ timeout: 1_000, tries: 1 })
  resolver.setServers([`127.0.0.1:${dns}`])
  await until(() => resolver.resolve4('gate.example.com').then((found) => found.length > 0, () => false))
  return { url: `https://127.0.0.1:${port}/dir`, caFile: certificate, challengePort: challenge ?? 0 }
}

describe.skipIf(!existsSync('/usr/bin/pebble'))('a certificate by ACME', () => {
  it('is had from the CA, shown for its name, and renewed', async () => {
    const pebble = await startPebble()
    const clock = heldClock(Date.now())
    const gate = await startGate('services: []\npolicies: []', clock)
    gate.putPolicies(`listener: {acme: {directory: "${pebble.url}", hosts: [gate.example.com], termsOfServiceAgreed: true, caFile: ${pebble.caFile}, challengePort: ${pebble.challengePort}}}\nservices: []\npolicies: []`)
    const shown = async () => {
      const socket = connect({ host: '127.0.0.1', port: gate.proxy.port, servername: 'gate.example.com', rejectUnauthorized: false })
      await once(socket, 'secureConnect')
      const { subjectaltname, serialNumber } = socket.getPeerCertificate()
      socket.destroy()
      return { names: subjectaltname, serialNumber }
    }
    await until(async () => (await shown()).names === 'DNS:gate.example.com')
    const { serialNumber } = await shown()
    clock.advance(5 * 365 * 86_400_000)
    await until(async () => (await shown()).serialNumber !== serialNumber)
    expect((await shown()).names).toBe('DNS:gate.example.com')
  }, 120_000)
})

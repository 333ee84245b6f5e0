// One protection of macOS is on: FileVault, firewall, Gatekeeper, system integrity, automatic updates.
import { securityType, type SecurityCheck } from '../security-check.ts'

const check = (read: SecurityCheck['read'], what: string): SecurityCheck => ({ read, holds: `${what} is on`, turnOn: `Switch on: ${what}.`, turnOff: `Switch off: ${what}.` })

export const macosSecurity = securityType('macos-security', 'macos', {
  'filevault': check(({ macos }) => macos?.fileVault, 'FileVault'),
  'firewall': check(({ macos }) => macos?.firewall, 'the application firewall'),
  'gatekeeper': check(({ macos }) => macos?.gatekeeper, 'Gatekeeper'),
  'system-integrity': check(({ macos }) => macos?.systemIntegrity, 'system integrity protection'),
  'automatic-updates': check(({ macos }) => macos?.automaticUpdates, 'automatic updates'),
})

// One protection of Windows is on: Defender, BitLocker, firewall, automatic updates, user account control, secure boot.
import { every, securityType, type SecurityCheck } from '../security-check.ts'

const check = (read: SecurityCheck['read'], what: string): SecurityCheck => ({ read, holds: `${what} is on`, turnOn: `Switch on: ${what}.`, turnOff: `Switch off: ${what}.` })

export const windowsSecurity = securityType('windows-security', 'windows', {
  'defender-real-time': check(({ windows }) => windows?.defenderRealTime, 'Defender\'s real-time protection'),
  'tamper-protection': check(({ windows }) => windows?.tamperProtection, 'Defender\'s tamper protection'),
  'bitlocker-system': check(({ windows }) => every((windows?.bitlocker ?? []).filter(({ system }) => system).map(({ state }) => state)), 'BitLocker on the system\'s drive'),
  'bitlocker-all': check(({ windows }) => every((windows?.bitlocker ?? []).map(({ state }) => state)), 'BitLocker on every fixed drive'),
  'firewall': check(({ windows }) => every([windows?.firewallDomain, windows?.firewallPrivate, windows?.firewallPublic]), 'the firewall in every profile'),
  'firewall-domain': check(({ windows }) => windows?.firewallDomain, 'the firewall in the domain profile'),
  'firewall-private': check(({ windows }) => windows?.firewallPrivate, 'the firewall in the private profile'),
  'firewall-public': check(({ windows }) => windows?.firewallPublic, 'the firewall in the public profile'),
  'automatic-updates': check(({ windows }) => windows?.automaticUpdates, 'automatic updates'),
  'uac': check(({ windows }) => windows?.uac, 'user account control'),
  'secure-boot': check(({ secureBoot }) => secureBoot, 'secure boot'),
})

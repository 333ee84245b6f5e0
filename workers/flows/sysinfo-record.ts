// The fabric's sysinfo record, mapped from an endpoint's row and facts. The published names stand here and in protocol/fabric only.
import { gatesFor } from '../../domain/version/gate.ts'
import type { CertificateRecord } from '../../protocol/certificates.ts'
import type { Facts, Sections } from '../../protocol/facts.ts'
import type { SysinfoRecord } from '../../protocol/fabric/tables.ts'
import type { EndpointRow } from '../../schema/endpoint.ts'

/** A record is kept by every gateway: a device with thousands of addresses must not fill them. */
const MAX_ADDRESSES = 32

const seconds = (ms: number) => Math.floor(ms / 1000)
const valueOf = <S extends keyof Sections>(facts: Facts, section: S) => facts[section]?.value
const onOff = (state: 'on' | 'off' | 'unknown' | undefined) => (state === 'on' ? 'enabled' : state === 'off' ? 'disabled' : '')

const verified = ({ authenticatedAt, expiresAt, ...said }: Sections['identity']): NonNullable<SysinfoRecord['verified_user']> => ({ ...said, authenticated_at: seconds(authenticatedAt), expires_at: expiresAt === null ? null : seconds(expiresAt) })

/** Maps one endpoint. What is not known is empty, never guessed. */
export function sysinfoRecord(row: EndpointRow, facts: Facts): SysinfoRecord {
  const [os, user, network, hardware, security, antivirus, agent, vulnerabilities, identity] = [
    valueOf(facts, 'os'), valueOf(facts, 'user'), valueOf(facts, 'network'), valueOf(facts, 'hardware'), valueOf(facts, 'security'), valueOf(facts, 'antivirus'), valueOf(facts, 'agent'), valueOf(facts, 'vulnerabilities'), row.identityBy === null ? undefined : valueOf(facts, 'identity'),
  ]
  // An agent of before 7.0.0 opens no tunnel: no gateway is told of a certificate of its.
  const certificates = gatesFor(row.protocol).certificates ? JSON.parse(row.certificates) as CertificateRecord[] : []
  const interfaces = network?.interfaces ?? []
  const macs = interfaces.flatMap(({ mac }) => (mac === undefined ? [] : [mac]))
  const addresses = interfaces.flatMap((each) => each.addresses.map(({ ip }) => ip))
  const social = user?.socialIds ?? []
  const count = (severity: string) => vulnerabilities?.found.filter((each) => each.severity === severity).length ?? 0
  return {
    uid: row.uid, sysinfo_update_time: seconds(row.lastReportAt ?? row.enrolledAt),
    is_registered: row.registered, online: row.online, onnet: row.onFabric, quarantined: row.quarantined,
    hostname: hardware?.hostName ?? row.hostName, domain: user?.domain ?? '', user_name: user?.account ?? row.account,
    user_info: {
      user_ext_name: user?.fullName ?? '', user_email: user?.email ?? '', service: social[0]?.service ?? '', phone: user?.phone ?? '', user_office: '', user_country: '', user_city: '',
      user_title: '', user_department: '', user_company: '', user_manager: '', employee_id: '', user_group_name: '',
    },
    social_ids: social.map(({ service, accountId }) => ({ service, account_id: accountId })),
    client_certs: certificates.map(({ serial, purpose, user: owner, notAfter }) => ({ sn: serial, purpose, user: owner, not_after: seconds(notAfter) })),
    client_cert_sn: certificates.findLast(({ purpose }) => purpose === 'agent')?.serial ?? '',
    avatar_fingerprint: user?.avatarFingerprint ?? '',
    os_type: os?.type ?? row.os, os_ver: os === undefined ? '' : `${os.name} ${os.version}`.trim(),
    fct_ver: (agent?.version ?? row.agentVersion).split('.').map(Number).filter(Number.isInteger), fct_build_no: 0, fct_sn: row.uid,
    ip: addresses[0] ?? '', public_ip: row.publicIp, mac: macs[0] ?? '', mac_list: macs, ip_list: addresses.slice(0, MAX_ADDRESSES), vdom: 'root', gateway_route_list: [],
    ...(row.ownership === null ? {} : { ownership: row.ownership }),
    // Told past its end too, with that end: whoever decides by it compares it with the clock of that moment.
    ...(identity === undefined ? {} : { verified_user: verified(identity) }),
    group_name: row.group, hardware_sn: hardware?.serial ?? '', host_manufacturer: hardware?.manufacturer ?? '', host_model: hardware?.model ?? '',
    cpu: hardware?.cpu ?? '', memory: hardware === undefined ? '' : String(hardware.memoryBytes),
    av_running: antivirus?.products.some(({ running }) => running === 'on') ?? false, vuln_scan_running: false,
    feature_av: onOff(antivirus?.products[0]?.running), feature_fw: onOff(security?.firewall.state), feature_wf: '', feature_as: '', feature_vpn: '', feature_vs: vulnerabilities === undefined ? '' : 'enabled',
    vuln_stats: { scan_time: seconds(vulnerabilities?.scannedAt ?? 0), critical: count('critical'), high: count('high'), medium: count('medium'), low: count('low'), info: count('info') + count('unrated') },
  }
}

// The EMS of the packet test, as a program of its own inside the gateway's namespace: it tells what the test says over the process channel.
import { JOIN_CODE_PREFIX, writeInvitation } from '../../../protocol/invitation.ts'
import type { SysinfoRecord } from '../../../protocol/fabric/tables.ts'
import { newKnocker, type Knocker } from '../fabric/gateway-under-test.ts'
import { HEALTHY, mark, startEmsDouble, systemRow, tagsRow, uidOf } from '../fabric/ems-double.ts'

/** What the test says of the one laptop; whatever is left out stays. */
export interface Orders { readonly tagged?: boolean; readonly claims?: Pick<SysinfoRecord, 'ip' | 'ip_list' | 'mac' | 'mac_list'>; readonly deauthorised?: boolean }
/** TLS root of the EMS, a join code, and the laptop's certificate with the CA that issued it. */
export interface Ready { readonly tlsCa: string; readonly joinCode: string; readonly authorityPem: string; readonly laptop: Knocker }

const ems = await startEmsDouble()
let revision = 5
const laptop = await newKnocker(ems.authority, uidOf(1))
let said: Required<Orders> = { tagged: true, claims: { ip: '', ip_list: [], mac: '', mac_list: [] }, deauthorised: false }
const row = () => systemRow(1, { ...said.claims, client_certs: [{ sn: laptop.serial, purpose: 'agent', user: '', not_after: 4_000_000_000 }] })
const tags = () => tagsRow(said.tagged ? [HEALTHY] : [])
ems.sysinfo = () => ({ updated_after: mark(revision), is_snapshot: true, rows: { [uidOf(1)]: row() } })
ems.uidTags = () => ({ updated_after: mark(revision), is_snapshot: true, rows: { [uidOf(1)]: tags() } })
ems.hostTags = [{ tag_uid: HEALTHY, name: 'healthy', type: 1, description: '', detection_level: '' }]
ems.onHello = (socket) => {
  // Whoever holds an older state loads it anew before it may call itself current.
  const old = socket.hello.have.sysinfo !== undefined && socket.hello.have.sysinfo !== mark(revision)
  if (old) socket.tell({ type: 'reload', table: 'sysinfo' }, { type: 'reload', table: 'uid_tags' }, { type: 'current', revision: mark(revision), at: Date.now() })
  else socket.tell({ type: 'current', revision: mark(revision), at: Date.now() })
}

process.on('message', (orders: Orders) => {
  said = { ...said, ...orders }
  const [after, next] = [mark(revision), mark(++revision)]
  const at = Date.now()
  for (const socket of ems.sockets) {
    if (socket.socket.readyState !== socket.socket.OPEN) continue
    if (said.deauthorised) socket.tell({ type: 'authorisation', state: 'denied', reason: 'by the test' })
    else socket.tell(
      { type: 'changed', table: 'sysinfo', after, updated_after: next, at, data: { [uidOf(1)]: row() } },
      { type: 'changed', table: 'uid_tags', after, updated_after: next, at, data: { uid_tag_lists: { [uidOf(1)]: tags() } } },
      { type: 'current', revision: next, at: Date.now() },
    )
  }
})
// The test's end, however it came.
process.on('disconnect', () => process.exit())
process.send?.({
  tlsCa: ems.tlsCa, authorityPem: ems.authority.certificatePem, laptop,
  joinCode: writeInvitation(JOIN_CODE_PREFIX, { ems: ems.address, pin: ems.authority.pin, code: 'c'.repeat(43) }),
} satisfies Ready)

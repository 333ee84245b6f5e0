// A whole gateway with two workers behind the EMS's word: what it says it has applied, each worker decides by.
import { rm } from 'node:fs/promises'
import { dirname } from 'node:path'
import { expect, it } from 'vitest'
import { startGateway } from '../../../gateway/start.ts'
import { JOIN_CODE_PREFIX, writeInvitation } from '../../../protocol/invitation.ts'
import { HEALTHY, mark, startEmsDouble, systemRow, tagsRow, uidOf, type GatewaySocket } from '../fabric/ems-double.ts'
import { readableLog, until } from '../fabric/follower-under-test.ts'
import { gatewayDirectory, knock, newKnocker, startService } from '../fabric/gateway-under-test.ts'

it('a gateway with workers tells the EMS that a change is applied when each of them has', async () => {
  const ems = await startEmsDouble()
  const service = await startService()
  const laptop = await newKnocker(ems.authority, uidOf(1))
  const place = await gatewayDirectory(service.port, 'healthy')
  const row = (quarantined: boolean) => systemRow(1, { quarantined, client_certs: [{ sn: laptop.serial, purpose: 'agent', user: '', not_after: 4_000_000_000 }] })
  ems.sysinfo = () => ({ updated_after: mark(5), is_snapshot: true, rows: { [uidOf(1)]: row(false) } })
  ems.uidTags = () => ({ updated_after: mark(5), is_snapshot: true, rows: { [uidOf(1)]: tagsRow([HEALTHY]) } })
  ems.hostTags = [{ tag_uid: HEALTHY, name: 'healthy', type: 1, description: '', detection_level: '' }]
  const sockets: GatewaySocket[] = []
  ems.onHello = (opened) => {
    sockets.push(opened)
    opened.tell({ type: 'current', revision: mark(5), at: Date.now() })
  }
  const events: string[] = []
  const gateway = await startGateway({
    ...place, listen: { host: '127.0.0.1', port: 0 }, metricsPort: 0, tlsCa: [ems.tlsCa], now: Date.now, log: readableLog().log, logLevel: 'silent', workers: 2, onEvent: ({ event }) => events.push(event),
    joinCode: writeInvitation(JOIN_CODE_PREFIX, { ems: ems.address, pin: ems.authority.pin, code: 'c'.repeat(43) }),
  })
  const four = async () => await Promise.all(Array.from({ length: 4 }, async () => (await knock(gateway, laptop, ems.authority.certificatePem)).status))
  try {
    await until('current', () => events.includes('current'))
    await until('the first table', () => sockets[0]?.said.some(({ type }) => type === 'applied') === true)
    expect(await four()).toEqual([200, 200, 200, 200])
    const [told] = sockets
    const before = told?.said.length ?? 0
    told?.tell({ type: 'changed', table: 'sysinfo', after: mark(5), updated_after: mark(6), at: Date.now(), data: { [uidOf(1)]: row(true) } }, { type: 'current', revision: mark(6), at: Date.now() })
    await until('applied', () => told?.said.slice(before).some((message) => message.type === 'applied' && message.table === 'sysinfo') === true)
    expect(await four()).toEqual([403, 403, 403, 403])
    expect(await (await fetch(`http://127.0.0.1:${gateway.metricsPort}/metrics`)).text()).toMatch(/sallyport_decisions_total\{reason="endpoint-quarantined",event="decide"\} 4/)
  } finally {
    await gateway.close()
    await ems.stop()
    await service.close()
    await rm(dirname(place.policiesFile), { recursive: true })
  }
})

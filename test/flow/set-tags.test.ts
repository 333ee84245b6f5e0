// Tags that are set, to the end: a gateway whose policy asks for them lets a laptop in, refuses it and says who set what, and lets it in again when the tag ends by itself.
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Gateway } from '../../gateway/start.ts'
import { createControlClient } from '../../node/control-client.ts'
import { silentLog } from '../../node/logging.ts'
import { downloadAuthorities } from '../../protocol/operations/fabric.ts'
import { until } from '../../start/steps.ts'
import { startFabric, type Fabric, type Laptop } from '../cli/fabric-under-test.ts'
import { knock } from '../gateway/fabric/gateway-under-test.ts'

describe('a gateway whose policy asks for tags that are set', () => {
  let fabric: Fabric
  let laptop: Laptop
  let gateway: Gateway
  let authority: string
  beforeAll(async () => {
    fabric = await startFabric()
    const [invitation] = await fabric.json<{ text: string }>('invitations', 'create')
    laptop = await fabric.enrol(invitation?.text ?? '')
    await laptop.report('12.8')
    for (const [name, type] of [['vip', 'classification'], ['finance', 'classification'], ['other', 'classification'], ['infected', 'fabric']] as const) await fabric.json('tags', 'create', name, '--type', type)
    const [code] = await fabric.json<{ text: string }>('gateways', 'join-code', 'create')
    // All, any and none of them.
    gateway = await fabric.startGateway('vip], any: [finance, other], none: [infected', { joinCode: code?.text ?? '' })
    await fabric.json('gateways', 'entitle', gateway.serial, '--share-mode', 'all', '--tag-types', '1,2,3,4')
    const reader = createControlClient({ ems: fabric.ems.address, tlsCa: [fabric.ems.tlsCaPem], now: Date.now, log: silentLog() })
    authority = await reader.call(downloadAuthorities, {})
    await reader.close()
  })
  afterAll(() => fabric.close())

  const getsIn = () => until('the laptop is let in', async () => (await knock(gateway, laptop, authority)).status === 200 || null, 60_000)
  const set = (...words: string[]) => fabric.json('tags', 'set', ...words)

  it('refuses while one is missing, and lets in when all are there', async () => {
    expect(await fabric.decision(gateway, laptop, '065')).toMatch(/^D/)
    await set('vip', laptop.uid)
    expect(await fabric.decision(gateway, laptop, '065')).toMatch(/^D/)
    await set('finance', laptop.uid)
    await getsIn()
  })

  it('refuses when one is set that must not be, explains who set it, and lets in again when it ends, with no report', async () => {
    await set('infected', laptop.uid, '--source', 'analyzer', '--reason', 'beacon seen', '--for', '15s')
    const id = await fabric.decision(gateway, laptop, '064')
    const { out } = await fabric.cli(['explain', id])
    expect(out).toContain('tag "infected" was present then')
    expect(out).toMatch(/set by analyzer on .* because: beacon seen, until /)
    await getsIn()
  }, 300_000)

  it('refuses when one is cleared', async () => {
    await fabric.json('tags', 'clear', 'vip', laptop.uid)
    expect(await fabric.decision(gateway, laptop, '065')).toMatch(/^D/)
  })
})

// Commands about gateways, tried in the order and the fabric of main.test.ts, which notes what was tried.
import { beforeAll, describe, expect, it } from 'vitest'
import { JOIN_CODE_PREFIX, readInvitation } from '../../protocol/invitation.ts'
import type { Gateway } from '../../gateway/start.ts'
import type { Fabric, Laptop } from './fabric-under-test.ts'

/** A laptop that is enrolled, and has reported. */
export function gatewaysTried(world: () => { fabric: Fabric; laptop: Laptop }): void {
  describe('gateways', () => {
    let fabric: Fabric
    let laptop: Laptop
    let gateway: Gateway
    beforeAll(() => {
      ({ fabric, laptop } = world())
    })

    it('join by a code, and their decisions are explained', async () => {
      const made = await fabric.cli(['gateways', 'join-code', 'create', '--name', 'branch', '--expires-in', '30m'])
      expect(made.err).toMatch(/^Shown once; good for one gateway, until .* \(in 30 min\)/)
      gateway = await fabric.startGateway('modern', { joinCode: made.out.trim() })
      const id = await fabric.decision(gateway, laptop, '065')
      const { out } = await fabric.cli(['explain', id])
      expect(out).toMatch(/^Refused: greeter\.test:7000 \(tcp\), .*\n {2}why +065 tag-missing: a tag that the policy asks for is absent\n/)
      expect(out).toContain('  tag "modern" was absent then\n')
      expect(out).toContain('mend    Update the operating system to version 12 or later.')
      await laptop.report('12.1')
      expect((await fabric.cli(['explain', id])).out).toContain('  tag "modern" was absent then, is present now\n')
      expect(await fabric.json('explain', id)).toMatchObject([{ decision: { id, reason: 'tag-missing' }, tags: [{ tag: 'modern', state: 'present' }] }])
      const elsewhere = 'D0123456789AB-0123456789ABCDEF'
      expect(await fabric.cli(['explain', elsewhere])).toMatchObject({ code: 1, err: 'No gateway that is connected knows that decision.\nA decision is kept by the gateway that took it. See whether SPGW0123456789AB is connected: cli gateways list.\n' })
    })
    it('are marked as the fabric\'s own, with the networks that count, and not any more', async () => {
      expect(await fabric.json('gateways', 'set-fabric', gateway.serial, 'on', '--networks', '10.20.0.0/16,fd00:20::/32', '--neighbours', 'no')).toMatchObject([{ serial: gateway.serial, fabric: { networks: ['10.20.0.0/16', 'fd00:20::/32'], neighbours: false } }])
      expect((await fabric.cli(['gateways', 'list'])).out).toContain('10.20.0.0/16,fd00:20::/32')
      expect(await fabric.json('gateways', 'set-fabric', gateway.serial, 'off')).toMatchObject([{ fabric: null }])
      expect((await fabric.cli(['gateways', 'set-fabric', gateway.serial, 'on', '--networks', '0.0.0.0/0'])).code).toBe(1)
      for (const wrong of [['maybe'], ['off', '--neighbours', 'no'], ['on', '--neighbours', 'no']]) expect((await fabric.cli(['gateways', 'set-fabric', gateway.serial, ...wrong])).code).toBe(2)
    })
    it('are listed and entitled', async () => {
      expect((await fabric.cli(['gateways', 'list'])).out).toMatch(new RegExp(`^${gateway.serial} +authorised +(just now|\\d+ min ago) `, 'm'))
      expect(await fabric.json('gateways', 'entitle', gateway.serial, '--share-mode', 'selected', '--selected', gateway.serial, '--tag-types', 'zero-trust,3', '--root', 'no', '--alias', 'Branch 7')).toEqual([{ ok: true }])
      expect(await fabric.json('gateways', 'list')).toMatchObject([{ serial: gateway.serial, name: 'Branch 7', shareMode: 2, shareTagTypes: [1, 3], connected: true }])
    })
    it('are said to see what they see, and why', async () => {
      const [sight] = await fabric.json<{ because: string[] }>('gateways', 'sight', gateway.serial)
      expect(sight).toMatchObject({ state: 'authorised', shareMode: 2, owners: [gateway.serial], counts: { endpoints: 1, sockets: 1 } })
      const { out } = await fabric.cli(['gateways', 'sight', gateway.serial])
      for (const sentence of sight?.because ?? ['none']) expect(out).toContain(`  ${sentence}\n`)
      const one = await fabric.cli(['gateways', 'sight', gateway.serial, laptop.uid])
      expect(one.out).toMatch(new RegExp(`^${gateway.serial} (sees|does not see) ${laptop.uid}\\. Share mode 2: .*\n  tag "\\S+" is (present|unknown), (not )?told: `))
      expect(await fabric.cli(['gateways', 'sight', gateway.serial, '0'.repeat(32)])).toMatchObject({ code: 1, err: 'There is no such endpoint.\nWhat there is: cli gateways list, cli endpoints list.\n' })
    })
    it('without a code wait until their fingerprint is compared', async () => {
      const [{ text }] = await fabric.json<{ text: string }>('gateways', 'join-code', 'create') as [{ text: string }]
      const { promise: shown, resolve } = Promise.withResolvers<string>()
      const starting = fabric.startGateway('modern', { pinned: { ems: fabric.ems.address, pin: readInvitation(JOIN_CODE_PREFIX, text)?.pin ?? '' } }, (event) => { if (event.event === 'pending') resolve(event.fingerprint) })
      const fingerprint = await shown
      const { serial } = (await fabric.json<{ serial: string; state: string }>('gateways', 'list')).find(({ state }) => state === 'pending') ?? { serial: '' }
      const wrong = await fabric.cli(['gateways', 'authorise', serial, '--fingerprint', '00:11'])
      expect(wrong).toMatchObject({ code: 1, err: expect.stringContaining('Compare it on the gateway itself') as string })
      expect(await fabric.json('gateways', 'authorise', serial, '--fingerprint', fingerprint)).toMatchObject([{ serial, state: 'authorised' }])
      expect((await starting).serial).toBe(serial)
    })
    it('are cut off after a yes, and not after anything else', async () => {
      for (const stdin of ['', 'no\n', 'yesterday\n']) {
        expect(await fabric.cli(['gateways', 'deauthorise', gateway.serial], { terminal: true, stdin })).toMatchObject({ code: 1, err: expect.stringMatching(/\[y\/N\] Nothing was changed\.\n$/) as string })
      }
      expect(await fabric.cli(['gateways', 'deauthorise', gateway.serial, '--reason', 'stolen'], { terminal: true, stdin: 'yes\n' })).toMatchObject({ code: 0 })
      expect((await fabric.cli(['gateways', 'list'])).out).toMatch(new RegExp(`^${gateway.serial} +denied .* stolen `, 'm'))
    })
  })
}

// What the agent says of itself: features that are in effect.
import { expect, it } from 'vitest'
import { agentSection } from '../../../agent/telemetry/agent-section.ts'
import { sections } from '../../../protocol/facts.ts'
import { profileSettings } from '../../../protocol/profile.ts'

it('tells the features that are in effect, not those that are merely wanted', () => {
  const versions = { profile: 5, rules: 7, licence: 0, authorities: 0 }
  const wants = profileSettings.parse({
    browserServices: ['wiki.example.com'], destinations: [{ match: '*.example.com', ports: [443], gateway: 'SPGW0123456789AB' }],
  })
  expect(sections.agent.parse(agentSection(versions, wants, true))).toMatchObject({ profileVersion: 5, rulesVersion: 7, features: ['browser-certificates', 'local-proxy', 'tunnel', 'verified-ems'] })
  expect(agentSection(versions, wants, false).features).toEqual(['browser-certificates', 'verified-ems'])
  expect(agentSection(versions, profileSettings.parse({ invalidCertificateAction: 'warn' }), true).features).toEqual(['local-proxy'])
  expect(agentSection(versions, null, false).features).toEqual([])
})

// An endpoint as people read it: who is signed in, as an identity provider says, beside the user whom the device names.
import { describe, expect, it } from 'vitest'
import { describeEndpoint } from '../../cli/endpoint-text.ts'

const now = Date.UTC(2026, 10, 25, 12)
const hour = 3_600_000
const endpoint = (signedInBy: string | null, value?: object) => ({
  uid: 'f'.repeat(32), hostName: 'laptop', os: 'linux', group: '', registered: true, online: true, account: 'alice', lastReportAt: now, enrolledAt: now, tags: [], ownership: null, onFabric: false, flappingSince: null,
  agentVersion: '0.1.0', signedInBy, certificates: [], facts: value === undefined ? {} : { identity: { at: now, provenance: 'proved' as const, value } },
})
const shown = (...given: Parameters<typeof endpoint>) => /^ {2}signed in +(.*)$/m.exec(describeEndpoint(endpoint(...given), new Map(), now).join('\n'))?.[1]
const user = { issuer: 'https://id.example.com', subject: 's1', email: 'alice@example.com', name: 'Alice', authenticatedAt: now - hour, expiresAt: now + hour }

describe('who is signed in', () => {
  it('is shown with the provider, since when and until when', () => {
    expect(shown('corp', user)).toBe('alice@example.com (Alice) by corp, since 2026-11-25T11:00:00Z (60 min ago), until 2026-11-25T13:00:00Z')
    expect(shown('corp', { ...user, email: undefined, name: undefined })).toContain('s1 by corp, since')
  })
  it('is nobody, or nobody any more', () => {
    expect([shown(null), shown(null, user), shown('corp', {})]).toEqual(['nobody', 'nobody', 'nobody'])
    expect(shown('corp', { ...user, expiresAt: now - hour })).toBe('nobody; alice@example.com (Alice) by corp was, until 2026-11-25T11:00:00Z (60 min ago)')
  })
})

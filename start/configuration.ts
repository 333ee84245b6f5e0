// What an administrator would set up for this machine: a rule, a profile and an endpoint policy. Repeated at each start, it changes nothing that stands.
import type { ControlClient } from '../node/control-client.ts'
import * as admin from '../protocol/operations/admin.ts'
import type { ProfileSettings } from '../protocol/profile.ts'
import type { RuleSetInput } from '../protocol/rules.ts'

export const TAG = 'healthy'
export const GROUP = 'this machine'
export const INTRANET = { host: 'intranet.corp.test', port: 80 } as const
export const LEDGER = { host: 'ledger.corp.test', port: 7000 } as const
const NAME = 'npm start'

/** The rule: managed by this EMS, and the file that stands for "protection is on" is there. */
function ruleSetOf(watchedFile: string): RuleSetInput {
  const conditions = [{ type: 'ems-management', negate: false }, { type: 'file', negate: false, path: watchedFile }]
  return {
    name: NAME, enabled: true, tag: TAG, message: 'Protection must be on before this machine may reach the intranet.', comment: '', mode: 'enforce', transitionSeconds: 60,
    rules: { linux: { conditions }, macos: { conditions }, windows: { conditions } },
  }
}

/** Every item of a list, page by page. */
async function all<T>(page: (after: string | undefined) => Promise<{ items: T[]; next: string | null }>): Promise<T[]> {
  const items: T[] = []
  for (let after: string | undefined; ;) {
    const { items: some, next } = await page(after)
    items.push(...some)
    if (next === null) return items
    after = next
  }
}
const same = (a: unknown, b: unknown) => JSON.stringify(a) === JSON.stringify(b)

export interface Wanted { readonly watchedFile: string; readonly gateway: { readonly serial: string; readonly port: number }; readonly proxy: ProfileSettings['proxy'] }

/** Makes or mends the three by name. */
export async function configure(client: ControlClient, { watchedFile, gateway, proxy }: Wanted): Promise<void> {
  const ruleSet = ruleSetOf(watchedFile)
  const ruleSets = await all((after) => client.call(admin.listRuleSets, { query: { after } }))
  const rules = ruleSets.find(({ name }) => name === NAME)
  if (rules === undefined) await client.call(admin.createRuleSet, { body: ruleSet })
  else if (!same(rules.rules, ruleSet.rules)) await client.call(admin.replaceRuleSet, { params: { id: rules.id }, body: ruleSet })

  const profiles = await all((after) => client.call(admin.listProfiles, { query: { after } }))
  const kept = profiles.find(({ name }) => name === NAME)
  const settings: Partial<ProfileSettings> = {
    gateways: [{ serial: gateway.serial, host: '127.0.0.1', port: gateway.port }],
    destinations: [{ match: '*.corp.test', ports: [INTRANET.port, LEDGER.port], gateway: gateway.serial }],
    proxy,
  }
  const matches = kept !== undefined && same([kept.settings.gateways, kept.settings.destinations, kept.settings.proxy], [settings.gateways, settings.destinations, settings.proxy])
  const body = { name: NAME, settings: { ...kept?.settings, ...settings } }
  const profile = kept === undefined ? await client.call(admin.createProfile, { body }) : matches ? kept : await client.call(admin.replaceProfile, { params: { id: kept.id }, body })

  const policies = await all((after) => client.call(admin.listPolicies, { query: { after } }))
  if (!policies.some(({ name }) => name === NAME)) await client.call(admin.createPolicy, { body: { name: NAME, position: 0, groups: [GROUP], profileId: profile.id } })
}

const GENERATED = '# Written by "npm start". Take this line away to keep what you change.'

/** The gateway's policies for the two services. */
export const policiesText = (ports: { intranet: number; ledger: number }): string => `${GENERATED}
services:
  - name: intranet
    protocol: tcp
    match: [${INTRANET.host}]
    ports: [${INTRANET.port}]
    upstream: 127.0.0.1:${ports.intranet}
  - name: ledger
    protocol: tcp
    match: [${LEDGER.host}]
    ports: [${LEDGER.port}]
    upstream: 127.0.0.1:${ports.ledger}
policies:
  - name: healthy machines
    services: [intranet, ledger]
    tags: { all: [${TAG}] }
    action: allow
`
/** Whether a policy file may be written over. */
export const isGenerated = (text: string | null): boolean => text === null || text.startsWith(GENERATED)

// Explanations for the user: by the EMS where it answers, else by what the gateway told this machine.
import { afterEach, describe, expect, it } from 'vitest'
import { explain } from '../../agent/explain.ts'
import { readIdentity } from '../../agent/certificates/identity-store.ts'
import type { Denial } from '../../agent/tunnel/denial.ts'
import { createControlClient } from '../../node/control-client.ts'
import { silentLog } from '../../node/logging.ts'
import { closeAll, enrolledScene, onEnd } from './agent-under-test.ts'
import { refusal } from './ems-double.ts'

afterEach(closeAll)
const ID = 'D0123456789AB-0123456789ABCDEF'
const denial: Denial = { at: 1, destination: 'wiki.corp.test:443', decision: ID, code: '065', reason: 'tag-missing', message: 'It needs a tag.', tags: ['managed'] }
const tag = (name: string) => ({ tagUid: '00000000-0000-4000-8000-000000000001', tag: name, state: 'absent', validUntil: null, ruleSets: [] })

async function asking(denials: readonly Denial[] = []) {
  const { ems, directory } = await enrolledScene()
  const identity = await readIdentity(directory)
  const client = createControlClient({ ems: ems.address, identity: () => identity, tlsCa: [ems.tlsCa], now: Date.now, log: silentLog(), timeoutMs: 30_000 })
  onEnd(() => client.close())
  ems.instead.set('own-tags', () => ({ json: { tags: [tag('managed'), tag('other')] } }))
  return { ems, ask: (subject: string) => explain(subject, { client, denials }) }
}

describe('an explanation', () => {
  it('of a tag is found by its name, whatever its case, and by its id', async () => {
    const { ems, ask } = await asking()
    ems.instead.set('own-tag', () => ({ json: tag('managed') }))
    expect((await ask('MANAGED')).tags.map(({ tag: name }) => name)).toEqual(['managed'])
    expect((await ask('00000000-0000-4000-8000-000000000001')).tags.map(({ tag: name }) => name)).toEqual(['managed'])
    await expect(ask('nothing of that name')).rejects.toThrow(/Nothing is known under "nothing of that name"/)
    await expect(ask('../../admin/endpoints')).rejects.toThrow(/Nothing is known under/)
  })
  it('of a decision that the EMS can not explain is what the gateway told, with why its tags are as they are', async () => {
    const { ems, ask } = await asking([denial])
    expect(await ask(ID)).toMatchObject({ denial, decision: null, tags: [{ tag: 'managed' }] })
    ems.instead.set('own-tags', () => refusal('internal'))
    expect(await ask(ID)).toEqual({ denial, decision: null, tags: [] })
    await ems.stop()
    expect(await ask(ID)).toEqual({ denial, decision: null, tags: [] })
  })
  it('of a decision that nobody knows says so, and of anything else that the EMS is away', async () => {
    const { ems, ask } = await asking()
    await expect(ask(ID)).rejects.toMatchObject({ code: 'not_found' })
    await ems.stop()
    await expect(ask('managed')).rejects.toMatchObject({ code: 'busy' })
  })
})

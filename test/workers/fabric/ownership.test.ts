// Whose device an endpoint is: said by administrators alone, told to gateways at once, and by nobody's default.
import { beforeEach, describe, expect, it } from 'vitest'
import { admin, enrolled, linux, report, type Endpoint } from '../ems.ts'
import { by, dataOf, greeted, joined, messageOf, update, type Frame } from '../gateway.ts'
import { real } from '../standing.ts'

const { DB } = real
const say = ({ uid }: Endpoint, ownership: unknown) => admin('PUT', `/endpoints/${uid}/ownership`, { ownership })
const shown = async ({ uid }: Endpoint) => (await admin('GET', `/endpoints/${uid}`)).json.ownership
const rowsOfLog = async () => (await DB.prepare('SELECT count(*) AS count FROM change_log').first<{ count: number }>())?.count
const recordIn = (frame: Frame, uid: string) => {
  const told = messageOf(frame, 'changed')
  return told?.table === 'sysinfo' ? (told.data as Record<string, Record<string, unknown> | null> | undefined)?.[uid] : undefined
}

async function watching() {
  const gateway = await joined()
  await update(gateway.serial, { share_mode: 1, share_tag_types: [1] })
  const { listening } = await greeted(gateway)
  return { gateway, told: async ({ uid }: Endpoint) => recordIn(await listening.next((frame) => recordIn(frame, uid) !== undefined), uid) }
}

describe('ownership', () => {
  beforeEach(async () => {
    await DB.batch(['gateways', 'endpoints'].map((table) => DB.prepare(`DELETE FROM ${table}`)))
  })

  it('is what the invitation says, and not known when that says nothing', async () => {
    const { told } = await watching()
    for (const ownership of ['personal', 'corporate', null]) {
      const endpoint = await enrolled(ownership === null ? {} : { ownership })
      const record = await told(endpoint) ?? {}
      expect([await shown(endpoint), 'ownership' in record ? record.ownership : null]).toEqual([ownership, ownership])
    }
    const listed = (await admin('GET', '/invitations')).json.items as { ownership: unknown }[]
    expect(listed.slice(0, 3).map(({ ownership }) => ownership)).toEqual([null, 'corporate', 'personal'])
  })

  it('is changed by an administrator, and a gateway is told the whole record before that is answered', async () => {
    const endpoint = await enrolled()
    await report(endpoint, 1, { os: linux('12.8') })
    const { gateway, told } = await watching()
    for (const ownership of ['corporate', 'personal', null] as const) {
      expect((await say(endpoint, ownership)).json).toEqual({ ok: true })
      const record = await told(endpoint)
      expect([record?.ownership ?? null, record?.os_ver, await shown(endpoint)]).toEqual([ownership, 'Debian GNU/Linux 12.8', ownership])
    }
    await say(endpoint, 'corporate')
    const page = dataOf(await by(gateway, 'GET', '/api/v1/report/fct/sysinfo'))
    expect((page.data as Record<string, unknown>)[endpoint.uid]).toMatchObject({ ownership: 'corporate' })
  })

  it('said again writes nothing, and a report leaves it as it is', async () => {
    const endpoint = await enrolled({ ownership: 'personal' })
    await report(endpoint, 1, { os: linux('12.8') })
    const before = await rowsOfLog()
    expect([(await say(endpoint, 'personal')).status, await rowsOfLog(), await shown(endpoint)]).toEqual([200, before, 'personal'])
  })

  it('of many sayings at once is one of those that were said, by gateway and EMS alike', async () => {
    const endpoint = await enrolled()
    const gateway = await joined()
    await update(gateway.serial, { share_mode: 1, share_tag_types: [1] })
    const answers = await Promise.all(['corporate', 'personal', 'corporate', 'personal'].map((ownership) => say(endpoint, ownership)))
    expect(answers.map(({ status }) => status)).toEqual([200, 200, 200, 200])
    const page = dataOf(await by(gateway, 'GET', '/api/v1/report/fct/sysinfo'))
    expect((page.data as Record<string, { ownership?: unknown }>)[endpoint.uid]?.ownership).toBe(await shown(endpoint))
  })

  it('is refused for anything else, for nobody, and for whoever is deregistered', async () => {
    const endpoint = await enrolled()
    expect([(await say(endpoint, 'public')).code, (await say(endpoint, undefined)).code, (await admin('POST', '/invitations', { name: 'x', ownership: 'public' })).code]).toEqual(['invalid', 'invalid', 'invalid'])
    expect((await say({ ...endpoint, uid: 'f'.repeat(32) }, 'corporate')).code).toBe('not_found')
    await admin('POST', `/endpoints/${endpoint.uid}/deregister`, { reason: '' })
    expect([(await say(endpoint, 'corporate')).code, await shown(endpoint)]).toEqual(['conflict', null])
  })
})

// The reporter against a model of the EMS: what is lost, doubled or refused on the way neither loses a section nor invents one.
import canonicalize from 'canonicalize'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { ReporterOptions } from '../../../agent/telemetry/reporter.ts'
import { Fault } from '../../../protocol/faults.ts'
import { agent, modelEms, os, scene, user, type Body } from './reporter-under-test.ts'

describe('a reporter', () => {
  it('under any losses, doublings and refusals loses no section and invents none', async () => {
    const step = fc.oneof(
      fc.record({ do: fc.constant('hold' as const), section: fc.constantFrom('os' as const, 'agent' as const, 'user' as const), value: fc.integer({ min: 0, max: 1 }) }),
      fc.record({ do: fc.constant('flush' as const) }), fc.record({ do: fc.constant('wait' as const), ms: fc.constantFrom(0, 0, 50, 5_000) }),
      fc.record({ do: fc.constant('restart' as const), lost: fc.boolean() }),
    )
    const road = fc.constantFrom('fine', 'fine', 'request-lost', 'reply-lost', 'reply-lost', 'doubled', 'late-double', 'refused', 'busy')
    const make = { os: (n: number) => os(String(n)), agent: (n: number) => agent(String(n)), user: (n: number) => user(`user${n}`) }
    await fc.assert(fc.asyncProperty(fc.array(step, { maxLength: 25 }), fc.array(road, { maxLength: 40 }), async (steps, roads) => {
      const ems = modelEms()
      const ever = new Set<string>()
      let late: Body | null = null
      let at = 0
      const send: ReporterOptions['send'] = (body) => {
        const copy = structuredClone(body)
        const how = roads[at++] ?? 'fine'
        if (how === 'request-lost') throw new Fault('busy', 'lost')
        if (how === 'busy') throw new Fault('busy', 'busy')
        if (how === 'refused' && Object.keys(copy.sections).length > 0) throw new Fault('internal', 'no')
        if (late !== null) {
          // A copy that the network kept: it must change nothing that came after it.
          const before = new Map(ems.held)
          try {
            ems.take(late)
          } catch (cause) {
            if (!(cause instanceof Fault)) throw cause
          }
          expect([...ems.held].filter(([name, { hash }]) => before.get(name)?.hash !== hash && before.has(name))).toEqual([])
          late = null
        }
        const reply = ems.take(copy)
        if (how === 'doubled') ems.take(copy)
        if (how === 'late-double') late = copy
        if (how === 'reply-lost') throw new Fault('busy', 'lost')
        return Promise.resolve(reply)
      }
      let current = scene(send)
      current.reporter.flush()
      const now = new Map<keyof typeof make, unknown>()
      for (const each of steps) {
        if (each.do === 'hold') {
          const value = make[each.section](each.value)
          ever.add(canonicalize(value) ?? '')
          now.set(each.section, value)
          current.reporter.hold(each.section, value)
        } else if (each.do === 'flush') current.reporter.flush()
        else if (each.do === 'wait') await current.timers.advance(each.ms)
        else {
          // The machine crashes, perhaps with its disk: what was held is lost, and probes look anew.
          await current.reporter.close()
          const kept = each.lost ? 0 : current.state.sequence
          current = scene(send)
          current.state.sequence = kept
          for (const [section, value] of now) current.reporter.hold(section, value as never)
          current.reporter.flush()
        }
      }
      await current.idle()
      for (const [section, value] of now) expect(ems.held.get(section)?.value).toEqual(value)
      for (const { value } of ems.held.values()) expect(ever.has(canonicalize(value) ?? '')).toBe(true)
      await current.reporter.close()
    }), { numRuns: 150 })
  }, 180_000)
})

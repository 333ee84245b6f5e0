// A whole pass over this very machine: sections that the EMS takes, the same when nothing changed, and next to no commands then.
import { execFile } from 'node:child_process'
import { afterEach, expect, it, vi } from 'vitest'
import { probesHere } from '../../../agent/posture/probes.ts'
import { sections } from '../../../protocol/facts.ts'
import { closeAll, temporaryDirectory } from '../agent-under-test.ts'

afterEach(async () => {
  vi.useRealTimers()
  await closeAll()
})

/** The agent's own commands yield to all others, and are given up: on a busy machine that would be another answer. */
const atOnce = (file: string, args: readonly string[]): Promise<string | null> => new Promise((resolve) => {
  execFile(file, args, { env: { PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', LC_ALL: 'C.UTF-8' }, maxBuffer: 2 ** 24, encoding: 'utf8' }, (error, stdout) => resolve(error === null ? stdout : null))
})

it('of this machine is what the EMS takes; unchanged, it is the same to the letter and asks hardly anybody', async () => {
  // What was read too soon after a change is read once more: here time passes at once.
  vi.useFakeTimers({ toFake: ['performance'] })
  let commands: string[] = []
  const probes = probesHere({
    root: '/', stateDirectory: await temporaryDirectory(), ownerUid: process.getuid?.() ?? 0, maySet: () => [], onUnreadable: () => undefined, now: () => 0,
    pictures: { read: () => Promise.resolve(null), deliver: () => Promise.resolve() },
    run(file, args) {
      commands.push(file)
      return atOnce(file, args)
    },
  })
  async function pass(): Promise<Record<string, string>> {
    commands = []
    vi.advanceTimersByTime(5_000)
    const found: Record<string, string> = {}
    for (const { section, collect } of probes) {
      const value = await collect()
      expect(value === null || sections[section].safeParse(value).success, section).toBe(true)
      found[section] = JSON.stringify(value)
    }
    return found
  }
  const first = await pass()
  await pass()
  const third = await pass()
  // Addresses come and go by themselves.
  expect({ ...third, network: '' }).toEqual({ ...first, network: '' })
  expect(commands.filter((name) => !['nft', 'iptables-save', 'id', 'realm', 'mdatp'].includes(name))).toEqual([])
}, 300_000)

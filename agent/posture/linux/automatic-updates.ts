// Whether the system installs its updates by itself: apt with unattended-upgrades, or dnf-automatic. A timer that is masked, or a tool that is missing, installs nothing.
import { join } from 'node:path'
import type { Sections } from '../../../protocol/facts.ts'
import { createKept } from '../kept.ts'
import { isThere, readNames, readTarget, readText, type RunCommand } from '../read.ts'

type AutomaticUpdates = Sections['security']['automaticUpdates']
const nothing: AutomaticUpdates = { state: 'unknown', product: '' }

/** `apt-config dump`: whether unattended upgrades are switched on there, as apt's daily run understands it (`0`, and nothing, is off). */
export function unattended(dump: string): boolean {
  const said = new Map(dump.split('\n').flatMap((row) => {
    const found = /^APT::Periodic::([\w-]+) "(.*)";$/i.exec(row)
    return found === null ? [] : [[found[1]?.toLowerCase() ?? '', found[2] ?? ''] as const]
  }))
  const isOn = (value: string) => value === 'always' || /^[1-9]\d*[smhd]?$/.test(value)
  return (said.get('enable') ?? '1') !== '0' && isOn(said.get('unattended-upgrade') ?? '0')
}

/** Whether something is to be installed, by dnf-automatic's configuration (INI; the last word counts). */
export const appliesUpdates = (text: string): boolean => /^(yes|true|1|on)$/i.test([...text.matchAll(/^[ \t]*apply_updates[ \t]*=[ \t]*(\S+)[ \t]*$/gm)].at(-1)?.[1] ?? '')

/** @param root where the machine's file system begins */
export function automaticUpdates(root: string, run: RunCommand): () => Promise<AutomaticUpdates> {
  const kept = createKept<string | null>()
  const units = join(root, 'etc/systemd/system')
  const isMasked = async (unit: string) => (await readTarget(join(units, unit))) === '/dev/null'
  const enabled = async () => await readNames(join(units, 'timers.target.wants')) ?? []

  async function apt(): Promise<AutomaticUpdates> {
    const directory = join(root, 'etc/apt/apt.conf.d')
    const names = await readNames(directory)
    if (names === null) return nothing
    const dump = await kept('apt', [join(root, 'etc/apt/apt.conf'), directory, ...names.sort().map((name) => join(directory, name))], () => run('apt-config', ['dump', 'APT::Periodic']))
    if (dump === null) return nothing
    const installed = await isThere(join(root, 'usr/bin/unattended-upgrade'))
    return { state: unattended(dump) && installed && !await isMasked('apt-daily-upgrade.timer') ? 'on' : 'off', product: 'unattended-upgrades' }
  }

  async function dnf(): Promise<AutomaticUpdates> {
    if (await readNames(join(root, 'etc/dnf')) === null) return nothing
    const timers = await enabled()
    // This one applies whatever the configuration says.
    if (timers.includes('dnf-automatic-install.timer')) return { state: 'on', product: 'dnf-automatic' }
    const runs = timers.includes('dnf-automatic.timer') || timers.includes('dnf5-automatic.timer')
    return { state: runs && appliesUpdates(await readText(join(root, 'etc/dnf/automatic.conf')) ?? '') ? 'on' : 'off', product: 'dnf-automatic' }
  }

  return async () => {
    const byApt = await apt()
    return byApt.state === 'unknown' ? await dnf() : byApt
  }
}

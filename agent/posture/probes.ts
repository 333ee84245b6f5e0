// Which probes there are on this system. What has none stays missing, which is unknown.
import { userInfo } from 'node:os'
import { join } from 'node:path'
import { findHome } from './home.ts'
import { createKept } from './kept.ts'
import { linuxAntivirus } from './linux/antivirus.ts'
import { linuxDirectory } from './linux/directory.ts'
import { linuxHardware } from './linux/hardware.ts'
import { linuxUpdates } from './linux/last-update.ts'
import { linuxNetwork } from './linux/network.ts'
import { linuxOs } from './linux/os.ts'
import { linuxSecurity } from './linux/security.ts'
import { linuxSoftware } from './linux/software.ts'
import { linuxVulnerabilities } from './linux/vulnerabilities.ts'
import { macosDirectory } from './macos/directory.ts'
import { macosAntivirus, macosSecurity, macosUpdates } from './macos/protection.ts'
import { macosSoftware } from './macos/software.ts'
import type { Homes } from './places.ts'
import { osTypeHere, portableHardware, portableNetwork, portableOs } from './portable.ts'
import { probe, type Probe } from './probe.ts'
import type { RunCommand } from './read.ts'
import { collectUser, findAccount, type UserProbe } from './user.ts'
import { windowsDirectory } from './windows/directory.ts'
import { windowsUpdates } from './windows/last-update.ts'
import { windowsProtection } from './windows/protection.ts'
import { windowsSoftware } from './windows/software.ts'

export interface ProbeOptions extends UserProbe {
  readonly now: () => number
}
type HomeOf = () => Promise<Homes['home']>
type AccountOf = () => Promise<string | null>

/** The probes of the system this runs on; `verdicts` and `agent` are not probed, they follow from the documents. */
export function probesHere(options: ProbeOptions): readonly Probe[] {
  const { root, run } = options
  const user = probe({ section: 'user', cadence: 'inventory', collect: () => collectUser(options) })
  const kept = createKept<Homes['home']>()
  const homeOf = () => kept('home', [join(root, 'etc/passwd')], () => findHome(root, options.ownerUid, run))
  const accountOf = async () => (await findAccount(root, options.ownerUid, run))?.account ?? null
  switch (osTypeHere()) {
    case 'windows': return [user, ...portableProbes(), ...windowsProbes(run, homeOf)]
    case 'macos': return [user, ...portableProbes(), ...macosProbes(root, run, homeOf, async () => (await run('/usr/bin/id', ['-un', String(options.ownerUid)]))?.trim() ?? null)]
    case 'linux': return [user, ...linuxProbes(options, homeOf, accountOf)]
  }
}

const portableProbes = (): Probe[] => [
  probe({ section: 'os', cadence: 'inventory', collect: () => Promise.resolve(portableOs()) }),
  probe({ section: 'network', cadence: 'network', collect: () => Promise.resolve(portableNetwork()) }),
  probe({ section: 'hardware', cadence: 'inventory', collect: () => Promise.resolve(portableHardware()) }),
]

function windowsProbes(run: RunCommand, homeOf: HomeOf): Probe[] {
  const protection = windowsProtection(run)
  return [
    probe({ section: 'security', cadence: 'security', slow: true, collect: protection.security }), probe({ section: 'antivirus', cadence: 'security', slow: true, collect: protection.antivirus }),
    probe({ section: 'updates', cadence: 'inventory', slow: true, collect: () => windowsUpdates(run) }),
    probe({ section: 'directory', cadence: 'inventory', slow: true, collect: () => windowsDirectory(run, userInfo().username) }),
    probe({ section: 'software', cadence: 'inventory', slow: true, collect: windowsSoftware(run, homeOf) }),
  ]
}

const macosProbes = (root: string, run: RunCommand, homeOf: HomeOf, accountOf: AccountOf): Probe[] => [
  probe({ section: 'security', cadence: 'security', collect: () => macosSecurity(run) }),
  probe({ section: 'antivirus', cadence: 'inventory', slow: true, collect: () => macosAntivirus(run) }),
  probe({ section: 'updates', cadence: 'inventory', slow: true, collect: () => macosUpdates(run) }),
  probe({ section: 'directory', cadence: 'inventory', collect: async () => await macosDirectory(run, await accountOf()) }),
  probe({ section: 'software', cadence: 'inventory', slow: true, collect: macosSoftware(root, run, homeOf) }),
]

function linuxProbes({ root, run, ownerUid, now }: ProbeOptions, homeOf: HomeOf, accountOf: AccountOf): Probe[] {
  return [
    probe({ section: 'os', cadence: 'inventory', collect: () => linuxOs(root) }),
    probe({ section: 'network', cadence: 'network', collect: () => linuxNetwork(root) }),
    probe({ section: 'hardware', cadence: 'inventory', collect: () => linuxHardware(root) }),
    probe({ section: 'security', cadence: 'security', collect: linuxSecurity(root, run, homeOf) }),
    probe({ section: 'antivirus', cadence: 'security', collect: linuxAntivirus(root, run) }),
    probe({ section: 'updates', cadence: 'security', collect: linuxUpdates(root, run) }),
    probe({ section: 'directory', cadence: 'inventory', collect: () => linuxDirectory(root, ownerUid, run, accountOf) }),
    probe({ section: 'software', cadence: 'inventory', slow: true, collect: linuxSoftware(root, run, homeOf) }),
    probe({ section: 'vulnerabilities', cadence: 'inventory', slow: true, collect: linuxVulnerabilities(root, now, run) }),
  ]
}

// Which probes there are on this system. On macOS and Windows only what Node tells; the rest stays missing, which is unknown.
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
import type { Homes } from './places.ts'
import { osTypeHere, portableHardware, portableNetwork, portableOs } from './portable.ts'
import { probe, type Probe } from './probe.ts'
import { collectUser, findAccount, type UserProbe } from './user.ts'

export interface ProbeOptions extends UserProbe {
  readonly now: () => number
}

/** The probes of the system this runs on; `verdicts` and `agent` are not probed, they follow from the documents. */
export function probesHere(options: ProbeOptions): readonly Probe[] {
  const { root, run } = options
  const user = probe({ section: 'user', cadence: 'inventory', collect: () => collectUser(options) })
  if (osTypeHere() !== 'linux') {
    return [
      probe({ section: 'os', cadence: 'inventory', collect: () => Promise.resolve(portableOs()) }), user,
      probe({ section: 'network', cadence: 'network', collect: () => Promise.resolve(portableNetwork()) }),
      probe({ section: 'hardware', cadence: 'inventory', collect: () => Promise.resolve(portableHardware()) }),
    ]
  }
  const kept = createKept<Homes['home']>()
  const homeOf = () => kept('home', [join(root, 'etc/passwd')], () => findHome(root, options.ownerUid, run))
  const accountOf = async () => (await findAccount(root, options.ownerUid, run))?.account ?? null
  return [
    probe({ section: 'os', cadence: 'inventory', collect: () => linuxOs(root) }), user,
    probe({ section: 'network', cadence: 'network', collect: () => linuxNetwork(root) }),
    probe({ section: 'hardware', cadence: 'inventory', collect: () => linuxHardware(root) }),
    probe({ section: 'security', cadence: 'security', collect: linuxSecurity(root, run, homeOf) }),
    probe({ section: 'antivirus', cadence: 'security', collect: linuxAntivirus(root, run) }),
    probe({ section: 'updates', cadence: 'security', collect: linuxUpdates(root, run) }),
    probe({ section: 'directory', cadence: 'inventory', collect: () => linuxDirectory(root, options.ownerUid, run, accountOf) }),
    probe({ section: 'software', cadence: 'inventory', slow: true, collect: linuxSoftware(root, run, homeOf) }),
    probe({ section: 'vulnerabilities', cadence: 'inventory', slow: true, collect: linuxVulnerabilities(root, options.now, run) }),
  ]
}

// Which probes there are on this system. On macOS and Windows only what Node tells; the rest stays missing, which is unknown.
import { findHome } from './home.ts'
import { linuxHardware } from './linux/hardware.ts'
import { linuxNetwork } from './linux/network.ts'
import { linuxOs } from './linux/os.ts'
import { linuxSecurity } from './linux/security.ts'
import { linuxSoftware } from './linux/software.ts'
import { linuxVulnerabilities } from './linux/vulnerabilities.ts'
import { osTypeHere, portableHardware, portableNetwork, portableOs } from './portable.ts'
import { probe, type Probe } from './probe.ts'
import { collectUser, type UserProbe } from './user.ts'

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
  return [
    probe({ section: 'os', cadence: 'inventory', collect: () => linuxOs(root) }), user,
    probe({ section: 'network', cadence: 'network', collect: () => linuxNetwork(root) }),
    probe({ section: 'hardware', cadence: 'inventory', collect: () => linuxHardware(root) }),
    probe({ section: 'security', cadence: 'security', collect: () => linuxSecurity(root, run) }),
    probe({ section: 'software', cadence: 'inventory', slow: true, collect: linuxSoftware(root, run, () => findHome(root, options.ownerUid, run)) }),
    probe({ section: 'vulnerabilities', cadence: 'inventory', slow: true, collect: linuxVulnerabilities(root, options.now, run) }),
  ]
}

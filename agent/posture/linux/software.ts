// What is installed: by the distribution, by snap and Flatpak, and by the installers of Python and npm. Without the distribution's own word the list is missing.
import type { Sections } from '../../../protocol/facts.ts'
import { npmPackages } from '../npm-packages.ts'
import type { Homes } from '../places.ts'
import { pythonPackages } from '../python-packages.ts'
import { listSoftware } from '../software.ts'
import type { RunCommand } from '../read.ts'
import { linuxApplications } from './applications.ts'
import { distributionPackages } from './distribution-packages.ts'

/** @param homeOf where the enrolled user lives */
export function linuxSoftware(root: string, run: RunCommand, homeOf: () => Promise<Homes['home']>): () => Promise<Sections['software'] | null> {
  const [distribution, applications, python, npm] = [distributionPackages(root, run), linuxApplications(root, run), pythonPackages(), npmPackages()]
  return async () => {
    const own = await distribution()
    if (own === null) return null
    const homes = { root, home: await homeOf() }
    return listSoftware([...own, ...await applications(), ...await python(homes), ...await npm(homes)])
  }
}

// A software list as it is reported: sorted and each once (one package for two architectures), so that the same software is the same section.
import type { Sections } from '../../protocol/facts.ts'

type Package = Sections['software']['packages'][number]
/** As many as the EMS takes. What comes first stays: a home full of made-up packages must not crowd out the system's own. */
const MAX_PACKAGES = 20_000

export function listSoftware(found: readonly Package[]): Sections['software'] {
  const once = new Map<string, Package>()
  for (const each of found) {
    if (once.size >= MAX_PACKAGES) break
    once.set([each.ecosystem, each.name, each.version, each.source?.name, each.source?.version].join('\t'), each)
  }
  return { packages: [...once].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, each]) => each) }
}

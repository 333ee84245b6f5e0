// Virus scanners on Linux. Only some are known here: none of those is "not known", never "none".
import type { Sections } from '../../../protocol/facts.ts'
import type { RunCommand } from '../read.ts'
import { clamAv } from './clamav.ts'
import { defenderForEndpoint } from './defender.ts'

/** @param root where the machine's file system begins */
export function linuxAntivirus(root: string, run: RunCommand): () => Promise<Sections['antivirus'] | null> {
  const products = [clamAv(root, run), defenderForEndpoint(root, run)]
  return async () => {
    const found = (await Promise.all(products.map((look) => look()))).filter((product) => product !== null)
    return found.length === 0 ? null : { products: found }
  }
}

// All sections of this machine as they are now, with their hashes. A probe that knows nothing leaves its section out: unknown, not empty.
import canonicalize from 'canonicalize'
import { utf8 } from '../../identity/encoding.ts'
import { sha256Hex } from '../../identity/keys.ts'
import { sections as shapes, type SectionName, type Sections } from '../../protocol/facts.ts'
import type { Log } from '../../node/logging.ts'

export type Probes = { readonly [S in SectionName]?: () => Promise<Sections[S] | null> }
export type Collected = { readonly [S in SectionName]?: { readonly value: Sections[S]; readonly hash: string } }

/** Runs the probes of the named sections; one that fails is logged and leaves its section as it was reported. */
export async function collect(probes: Probes, names: readonly SectionName[], log: Log): Promise<Collected> {
  const found = await Promise.all(names.map(async (name) => {
    try {
      const value = await probes[name]?.() ?? null
      if (value === null) return null
      const parsed = shapes[name].parse(value)
      return [name, { value: parsed, hash: await sha256Hex(utf8(canonicalize(parsed) ?? '')) }] as const
    } catch (cause) {
      log.error({ event: 'probe-failed', section: name, reason: cause instanceof Error ? cause.message : String(cause) }, 'A probe failed; its section stays as it was.')
      return null
    }
  }))
  return Object.fromEntries(found.filter((each) => each !== null)) as Collected
}

// A file exists or does not, with a hash where one is given. Asked on the device; what can't be looked at is unknown.
import { z } from 'zod'
import { line, sha256Hex } from '../../../protocol/text.ts'
import { conditionType } from '../condition-type.ts'

const schema = z.strictObject({
  path: line(1024).refine((path) => /^(\/|[A-Za-z]:[\\/])/.test(path), 'must be an absolute path'),
  /** Absent: true. No default is filled in, so that the condition's key is the hash of what was written. */
  exists: z.boolean().optional(),
  sha256: sha256Hex.optional(),
}).refine(({ exists, sha256 }) => exists !== false || sha256 === undefined, { path: ['sha256'], message: 'a file that must not exist has no hash' })

export const file = conditionType<z.infer<typeof schema>>({
  type: 'file', schema, os: ['linux', 'windows', 'macos'], side: 'agent',
  async observe({ path, exists = true, sha256 }, device) {
    const facts = await device.fileFacts(path)
    if (facts === 'unreadable') return { value: 'unknown', seen: 'can not be read' }
    if (!facts.exists) return { value: exists ? 'false' : 'true', seen: 'does not exist' }
    if (sha256 === undefined) return { value: exists ? 'true' : 'false', seen: 'exists' }
    const actual = await facts.sha256()
    if (actual === null) return { value: 'unknown', seen: 'can not be read' }
    return { value: actual === sha256 ? 'true' : 'false', seen: `has SHA-256 ${actual}` }
  },
  watch: ({ path }) => ({ files: [path], processes: [] }),
  wanted: ({ path, exists = true, sha256 }) => `file "${path}" ${sha256 === undefined ? exists ? 'exists' : 'does not exist' : `has SHA-256 ${sha256}`}`,
  mend({ path, exists = true, sha256 }, negate) {
    if (sha256 !== undefined) return negate ? `Replace or remove "${path}".` : `Restore "${path}" to the file with SHA-256 ${sha256}.`
    return exists === negate ? `Remove "${path}".` : `Create "${path}".`
  },
})

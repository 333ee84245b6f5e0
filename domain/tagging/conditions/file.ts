// A file exists, with a hash where one is given. Asked on the device.
import { z } from 'zod'
import { line, sha256Hex } from '../../../protocol/text.ts'
import { conditionType } from '../condition-type.ts'

const schema = z.strictObject({ path: line(1024).refine((path) => /^(\/|[A-Za-z]:[\\/])/.test(path), 'must be an absolute path'), sha256: sha256Hex.optional() })

export const file = conditionType<z.infer<typeof schema>>({
  type: 'file', schema, os: ['linux', 'windows', 'macos'], side: 'agent', section: 'verdicts',
  async observe({ path, sha256 }, device) {
    const facts = await device.fileFacts(path)
    if (facts === 'unreadable') return { value: 'unknown', seen: `${path} can not be read` }
    if (!facts.exists) return { value: 'false', seen: `${path} does not exist` }
    if (sha256 === undefined) return { value: 'true', seen: `${path} exists` }
    const actual = await facts.sha256()
    if (actual === null) return { value: 'unknown', seen: `${path} can not be read` }
    return { value: actual === sha256 ? 'true' : 'false', seen: `${path} has SHA-256 ${actual}` }
  },
  watch: ({ path }) => ({ files: [path], processes: [] }),
  wanted: ({ path, sha256 }) => (sha256 === undefined ? `${path} exists` : `${path} has SHA-256 ${sha256}`),
  mend: ({ path }) => `Put ${path} back as it should be.`,
})

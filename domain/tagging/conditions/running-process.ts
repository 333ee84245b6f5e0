// A process runs, by its name and where given by the path of its program and that program's hash. Asked on the device. It reports no PID and no list of processes.
import { z } from 'zod'
import { line, sha256Hex } from '../../../protocol/text.ts'
import { conditionType } from '../condition-type.ts'

/** Processes of one name that are hashed: a device may run thousands of the same. */
const MOST_HASHED = 16
const schema = z.strictObject({ name: line(255), path: line(1024).optional(), sha256: sha256Hex.optional() })

export const runningProcess = conditionType<z.infer<typeof schema>>({
  type: 'running-process', schema, os: ['linux', 'windows', 'macos'], side: 'agent',
  async observe({ name, path, sha256 }, device) {
    const named = (await device.processes()).filter((process) => process.name === name)
    if (named.length === 0) return { value: 'false', seen: 'not running' }
    const placed = path === undefined ? named : named.filter((process) => process.path === path)
    if (placed.length > 0 && sha256 === undefined) return { value: 'true', seen: 'running' }
    if (placed.length > 0) {
      const hashes = await Promise.all(placed.slice(0, MOST_HASHED).map((process) => process.sha256?.() ?? Promise.resolve(null)))
      if (hashes.includes(sha256 ?? null)) return { value: 'true', seen: `running with SHA-256 ${sha256}` }
      // One that can't be read, or was not looked at, may be the one that is asked for.
      if (hashes.includes(null) || placed.length > MOST_HASHED || named.some((process) => path !== undefined && process.path === '')) return { value: 'unknown', seen: 'running, its program can not be read' }
      return { value: 'false', seen: `running with SHA-256 ${[...new Set(hashes)].sort().slice(0, 3).join(', ')}` }
    }
    // A path that the agent may not see is unknown, not wrong.
    if (named.some((process) => process.path === '')) return { value: 'unknown', seen: 'running, from where can not be seen' }
    // In order and each once: the order of a process list must not make this another answer.
    const paths = [...new Set(named.map((process) => process.path))].sort()
    return { value: 'false', seen: `running from ${paths.slice(0, 3).map((each) => `"${each}"`).join(', ')}` }
  },
  watch: ({ name }) => ({ files: [], processes: [name] }),
  wanted: ({ name, path, sha256 }) => `process "${name}" runs${path === undefined ? '' : ` from "${path}"`}${sha256 === undefined ? '' : ` with SHA-256 ${sha256}`}`,
  mend: ({ name, path, sha256 }, negate) => `${negate ? 'Stop' : 'Start'} "${path ?? name}"${sha256 === undefined ? '' : `, the program with SHA-256 ${sha256}`}.`,
})

// A process runs, by its name and where given by the path of its program. Asked on the device. It reports no PID and no list of processes.
import { z } from 'zod'
import { line } from '../../../protocol/text.ts'
import { conditionType } from '../condition-type.ts'

const schema = z.strictObject({ name: line(255), path: line(1024).optional() })

export const runningProcess = conditionType<z.infer<typeof schema>>({
  type: 'running-process', schema, os: ['linux', 'windows', 'macos'], side: 'agent', section: 'verdicts',
  async observe({ name, path }, device) {
    const named = (await device.processes()).filter((process) => process.name === name)
    if (named.length === 0) return { value: 'false', seen: 'not running' }
    if (path === undefined || named.some((process) => process.path === path)) return { value: 'true', seen: 'running' }
    // A path that the agent may not see is unknown, not wrong.
    if (named.some((process) => process.path === '')) return { value: 'unknown', seen: 'running, from where can not be seen' }
    // In order and each once: the order of a process list must not make this another answer.
    const paths = [...new Set(named.map((process) => process.path))].sort()
    return { value: 'false', seen: `running from ${paths.slice(0, 3).map((each) => `"${each}"`).join(', ')}` }
  },
  watch: ({ name }) => ({ files: [], processes: [name] }),
  wanted: ({ name, path }) => `process "${name}" runs${path === undefined ? '' : ` from "${path}"`}`,
  mend: ({ name, path }, negate) => (negate ? `Stop "${path ?? name}".` : `Start "${path ?? name}".`),
})

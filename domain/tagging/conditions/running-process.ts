// A process runs, by its name and where given by the path of its program. Asked on the device.
import { z } from 'zod'
import { line } from '../../../protocol/text.ts'
import { conditionType } from '../condition-type.ts'

const schema = z.strictObject({ name: line(255), path: line(1024).optional() })

export const runningProcess = conditionType<z.infer<typeof schema>>({
  type: 'running-process', schema, os: ['linux', 'windows', 'macos'], side: 'agent', section: 'verdicts',
  async observe({ name, path }, device) {
    const named = (await device.processes()).filter((process) => process.name === name)
    if (named.length === 0) return { value: 'false', seen: `${name} is not running` }
    const found = path === undefined ? named[0] : named.find((process) => process.path === path)
    if (found !== undefined) return { value: 'true', seen: `${name} is running${found.path === '' ? '' : ` (${found.path})`}` }
    // A path that the agent may not see is unknown, not wrong.
    const hidden = named.some((process) => process.path === '')
    return { value: hidden ? 'unknown' : 'false', seen: hidden ? `${name} is running, from where can not be seen` : `${name} is running from ${named[0]?.path ?? ''}` }
  },
  watch: ({ name }) => ({ files: [], processes: [name] }),
  wanted: ({ name, path }) => `${name} is running${path === undefined ? '' : ` from ${path}`}`,
  mend: ({ name, path }) => `Start ${path ?? name}.`,
})

// A sandbox has detected something on or from the device. True means detected: rules for good devices negate it, and need a source that has said there is nothing.
import { z } from 'zod'
import { severity, signalSource } from '../../../protocol/facts.ts'
import { conditionType } from '../condition-type.ts'
import { detected } from '../signals.ts'

const schema = z.strictObject({ /** Of this severity and above; absent: any. */ severity: severity.optional(), /** Only what this one says. */ source: signalSource.optional() })
const wantedOf = ({ severity: least, source }: z.infer<typeof schema>): string => `a detection by ${source ?? 'a sandbox'}${least === undefined ? '' : ` of severity ${least} or above`}`

export const sandboxDetection = conditionType<z.infer<typeof schema>>({
  type: 'sandbox-detection', schema, os: ['linux', 'windows', 'macos'], side: 'ems', section: 'sandbox',
  evaluate: (params, fact, { now }) => detected(fact, params, now),
  wanted: wantedOf,
  mend: (params, negate) => (negate ? `Clean the device, until ${params.source ?? 'a sandbox'} says that there is nothing${params.severity === undefined ? '' : ` of severity ${params.severity} or above`}.` : 'Nothing to mend: this marks devices on which something was detected.'),
})

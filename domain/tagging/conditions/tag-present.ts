// Another tag of the same endpoint is present. Where the other is unknown, so is this.
import { z } from 'zod'
import { tagName } from '../../../protocol/rules.ts'
import { conditionType } from '../condition-type.ts'

const schema = z.strictObject({ tag: tagName })

export const tagPresent = conditionType<z.infer<typeof schema>>({
  type: 'tag-present', schema, os: ['linux', 'windows', 'macos'], side: 'tags',
  tags: ({ tag }) => [tag],
  evaluate({ tag }, tags) {
    const state = tags(tag)
    if (state === null) return { value: 'unknown', seen: 'there is no such tag', validUntil: null }
    return { value: state.value, seen: state.value === 'true' ? 'present' : state.value === 'false' ? 'absent' : 'unknown', validUntil: state.validUntil }
  },
  wanted: ({ tag }) => `the tag "${tag}"`,
  mend: ({ tag }, negate) => `See what ${negate ? 'gives' : 'would give'} the tag "${tag}".`,
})

// `explain`: why a gateway decided as it did, or why an endpoint has a tag or has it not.
import { z } from 'zod'
import { UsageError } from '../node/config.ts'
import { decisionId, gatewayOfDecision, uid, uuid } from '../protocol/ids.ts'
import { explainDecision, explainTag } from '../protocol/operations/admin.ts'
import { line } from '../protocol/text.ts'
import { command } from './command.ts'
import { describeDecision, describeTag } from './explanation-text.ts'
import { findTag } from './tags.ts'

export const explainCommands = [
  command({
    name: 'explain', summary: 'Why a gateway decided as it did, or why an endpoint has a tag or has it not.',
    words: {
      SUBJECT: { says: 'the id of a decision, as block pages and logs show it; or the UID of an endpoint', schema: z.union([decisionId, uid], { error: 'must be the id of a decision (D…) or the UID of an endpoint' }) },
      TAG: { says: 'with an endpoint: the name or UID of a tag', schema: line(128).optional() },
    },
    options: {},
    examples: ['explain D0123456789AB-0123456789ABCDEF', 'explain 0123456789abcdef0123456789abcdef compliant', 'explain 0123456789abcdef0123456789abcdef compliant --json'],
    missing: ({ SUBJECT, TAG }) => (TAG === undefined
      ? `A decision is kept by the gateway that took it. See whether ${gatewayOfDecision(SUBJECT)} is connected: cli gateways list.`
      : 'What there is: cli endpoints list, cli tags list.'),
    async run({ words: { SUBJECT, TAG } }, session) {
      const { call, printer, now } = session
      if (decisionId.safeParse(SUBJECT).success) {
        if (TAG !== undefined) throw new UsageError('explain takes a decision alone: what it says of tags is part of it.')
        const explained = await call(explainDecision, { params: { id: SUBJECT } })
        return await printer.one(explained, () => describeDecision(explained, now()))
      }
      if (TAG === undefined) throw new UsageError('explain needs TAG beside the UID of an endpoint: a name or a UID.')
      const tag = uuid.safeParse(TAG).success ? TAG : (await findTag(session, TAG)).uid
      const explained = await call(explainTag, { params: { uid: SUBJECT, tag } })
      await printer.one(explained, () => describeTag(explained, now()))
    },
  }),
]

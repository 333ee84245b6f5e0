// `agent sign-out`: nobody is vouched for on this machine any more, and its gateways know it.
import { signOut } from '../../protocol/operations/sign-in.ts'
import { forgetCertificates, keptDirectory } from '../ssh/kept.ts'
import { ask } from './ask.ts'
import { show, type Perform } from './verb.ts'

export const perform: Perform = async (call) => {
  const told = signOut.reply.parse(await ask(call.directory, { ask: 'sign-out' }))
  await forgetCertificates(keptDirectory())
  show(call, told, 'Signed out. What needs a verified user is closed now; agent sign-in opens it again.')
  return 0
}

// What the running agent answers to each question on its local line. Who may ask is settled by the socket; what a person may do, by the EMS and the gateways.
import { beginSignIn, signIn, signOut } from '../protocol/operations/sign-in.ts'
import type { AgentEvent } from './agent-event.ts'
import type { AgentIdentity } from './certificates/identity-store.ts'
import type { Control } from './control.ts'
import { explain } from './explain.ts'
import type { KeptTunnel } from './keep-tunnel.ts'
import type { AgentStatus, Question, SignInBegun } from './local-status.ts'

export interface LineSources {
  readonly status: () => Promise<AgentStatus>
  readonly identity: () => AgentIdentity
  readonly control: Control
  readonly tunnel: KeptTunnel
  readonly tell: (event: AgentEvent) => void
}

/** Throws what the person should be told instead. */
export function answerLine({ status, identity, control, tunnel, tell }: LineSources): (question: Question) => Promise<unknown> {
  async function begin(provider: string | undefined): Promise<SignInBegun> {
    const { tlsCa, ownerUid } = identity()
    const begun = await control.client().call(beginSignIn, { body: provider === undefined ? {} : { provider } })
    return { ...begun, tlsCa, clockOffsetMs: control.offset(), ownerUid }
  }
  return async (question) => {
    switch (question.ask) {
      case 'status': return await status()
      case 'explain': return await explain(question.subject, { client: control.client(), denials: tunnel.denials() })
      case 'proxy': {
        const state = tunnel.state()
        return { httpPort: state.running ? state.httpPort : null, reason: state.running ? '' : state.reason, ownerUid: identity().ownerUid }
      }
      case 'protects': return { protects: tunnel.protects(question) }
      case 'begin-sign-in': return await begin(question.provider)
      case 'sign-in': {
        const { provider, idToken } = question
        const signedIn = await control.client().call(signIn, { body: { provider, idToken } })
        tell({ event: 'signed-in', provider, subject: signedIn.user.subject })
        return signedIn
      }
      case 'sign-out': {
        const done = await control.client().call(signOut, {})
        tell({ event: 'signed-out' })
        return done
      }
      default: {
        const asked = await tunnel.sshCertificate(question)
        return asked.outcome === 'issued' ? { ...asked, leftMs: asked.reply.validUntil - control.emsNow() } : asked
      }
    }
  }
}

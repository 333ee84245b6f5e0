// Signs the person at this machine in: asks the running agent to begin, sends their browser to the identity provider, and hands the ID token to the agent. No token is kept, shown or logged.
import { z } from 'zod'
import type { Timers } from '../../node/timers.ts'
import { Fault } from '../../protocol/faults.ts'
import { signIn as signInOperation } from '../../protocol/operations/sign-in.ts'
import { signInBegun, type Question } from '../local-status.ts'
import { listenForCallback, type Callback } from './callback.ts'
import { askProvider, type Attempt } from './provider.ts'

export const signedIn = signInOperation.reply
export type SignedIn = z.infer<typeof signedIn>

export interface SignInOptions {
  /** Asks the running agent. @throws a sentence */
  readonly ask: (question: Question) => Promise<unknown>
  /** Absent: the only one that there is. */
  readonly provider: string | undefined
  /** Told where the person has to go. */
  readonly onAddress: (address: string, ownerUid: number) => void
  readonly timers: Timers
  /** Aborted where the person calls it off. */
  readonly stopping: AbortSignal
}

const LIMIT_MS = 5 * 60_000
/** Carries what comes from elsewhere to a person's own machine, and can be anybody. */
const ROOT = 0

async function begin({ ask, provider }: SignInOptions) {
  const { providers, begun, ...place } = signInBegun.parse(await ask({ ask: 'begin-sign-in', ...(provider === undefined ? {} : { provider }) }))
  if (begun !== null) return { begun, ...place }
  throw new Fault('not_found', providers.length === 0
    ? 'Your organisation has set up no identity provider, so that nobody can sign in yet. Ask an administrator.'
    : `There are several identity providers: ${providers.join(', ')}. Name one: agent sign-in --provider ${providers[0] ?? 'NAME'}`)
}

/** Another program may have the one port that this provider takes. */
async function listen(attempt: Attempt, port: number | undefined, ownerUid: number, { timers, stopping }: SignInOptions): Promise<Callback> {
  try {
    return await listenForCallback({ port: port ?? 0, state: attempt.state, limitMs: LIMIT_MS, ownUids: [process.getuid?.() ?? ownerUid, ownerUid, ROOT], timers, stopping })
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== 'EADDRINUSE') throw cause
    throw new Error(`Port ${port} on 127.0.0.1 is taken, and this identity provider sends its answer there only. End what uses it (another agent sign-in?), then try again.`, { cause })
  }
}

/** @throws a sentence for the person; whatever happens, the address on loopback is closed when this is over */
export async function signIn(options: SignInOptions): Promise<SignedIn> {
  const { begun, ...place } = await begin(options)
  const attempt = await askProvider(begun, place)
  try {
    const callback = await listen(attempt, begun.provider.redirectPort, place.ownerUid, options)
    try {
      options.onAddress(await attempt.address(callback.redirectUri), place.ownerUid)
      const idToken = await attempt.idToken(await callback.arrived)
      const told = signedIn.parse(await options.ask({ ask: 'sign-in', provider: begun.provider.name, idToken }))
      await callback.show('You are signed in', 'You can close this window.')
      return told
    } catch (cause) {
      await callback.show('You are not signed in', cause instanceof Error ? cause.message : String(cause))
      throw cause
    } finally {
      await callback.close()
    }
  } finally {
    await attempt.close()
  }
}

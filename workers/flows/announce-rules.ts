// Tells everybody that rules were edited, and has endpoints evaluated anew.
import { logEvent, type Context } from '../context.ts'
import { announceToAgents, announceToGateways } from './announce.ts'

/** The edit stands whoever hears of it: an administrator must not be told to send it again. Who did not hear is told by the re-evaluation, and that is begun by the cron at the latest. */
export async function announceRules(context: Context, asks: boolean): Promise<void> {
  if (asks) announceToAgents(context)
  const orSay = (event: string) => (cause: unknown) => {
    logEvent(event, { cause: cause instanceof Error ? cause.message : String(cause) })
    return false
  }
  const told = await announceToGateways(context).then(() => true, orSay('gateways-not-told'))
  await context.env.RE_EVALUATION.getByName('one').start(!told).then(() => true, orSay('re-evaluation-not-started'))
}

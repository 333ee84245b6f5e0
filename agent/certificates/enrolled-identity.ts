// Who this agent is when it starts: what a crash has left is cleared away, and a letting go that it interrupted is finished.
import { Fault } from '../../protocol/faults.ts'
import { systemFailure } from '../failure.ts'
import { clearLeftovers, describeLetGo, forgetEnrolment, readIdentity, readLetGo, repairIdentity, type AgentIdentity } from './identity-store.ts'

/** On a full disk the agent starts all the same: what it has read is whole, and it looks again every minute. */
async function repaired(stateDirectory: string, kept: AgentIdentity): Promise<void> {
  await repairIdentity(stateDirectory, kept).catch((cause: unknown) => {
    if (systemFailure(cause) === null) throw cause
  })
}

/**
 * Call it under the lock of the directory. Throws a `Fault` `not_found` when this machine is not enrolled, or no longer.
 * @param alsoLetGo lets go of what lies outside the directory, as often as it takes
 */
export async function enrolledIdentity(stateDirectory: string, alsoLetGo: () => Promise<void>): Promise<AgentIdentity> {
  await clearLeftovers(stateDirectory)
  const letGo = await readLetGo(stateDirectory)
  const kept = await readIdentity(stateDirectory)
  if (letGo === null) {
    if (kept === null) throw new Fault('not_found', 'This machine is not enrolled; ask an administrator for an invitation and run `agent enrol INVITATION`.')
    await repaired(stateDirectory, kept)
    return kept
  }
  // Enrolled anew since: another UID.
  if (kept !== null && letGo.uid !== kept.uid) {
    await repaired(stateDirectory, kept)
    return kept
  }
  if (kept !== null) await forgetEnrolment(stateDirectory, letGo)
  await alsoLetGo()
  throw new Fault('not_found', `${describeLetGo(letGo)} To enrol it again, ask an administrator for an invitation and run \`agent enrol INVITATION\`.`)
}

// Asks the running agent for a command; where none runs, says why not and how to come there.
import { Fault } from '../../protocol/faults.ts'
import { askAgent, type Question } from '../local-status.ts'

export async function ask(directory: string, question: Question): Promise<unknown> {
  const told = await askAgent(directory, question)
  if (told !== null) return told
  // Not read where an agent answers: what it takes to read certificates would be half of what such a command costs, and ssh calls one for each host.
  const { describeLetGo, readIdentity, readLetGo } = await import('../certificates/identity-store.ts')
  const [letGo, identity] = [await readLetGo(directory), await readIdentity(directory)]
  if (identity !== null && letGo?.uid !== identity.uid) throw new Fault('not_found', `No agent runs with the state in ${directory}. Start it: agent run --state ${directory}`)
  throw new Fault('not_found', `${letGo === null ? `Nothing is enrolled with the state in ${directory}.` : describeLetGo(letGo)} Ask an administrator for an invitation and run: agent enrol INVITATION --state ${directory}${letGo === null ? '. If an agent runs here with another state, name that: --state DIR, or SALLYPORT_STATE' : ''}`)
}

// The agent as a program: its words in, its lines out, its exit code.
import { endProcess } from '../node/end-process.ts'
import { agentCommand } from './command-line.ts'

await endProcess(await agentCommand(process.argv.slice(2), {
  out(text) { process.stdout.write(`${text}\n`) },
  err(text) { process.stderr.write(`${text}\n`) },
}))

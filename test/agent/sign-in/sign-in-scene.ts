// An enrolled agent, an EMS that believes one real provider, and the agent's commands as the person calls them.
import { agentCommand } from '../../../agent/command-line.ts'
import { enrolledScene, happened, onEnd, type Scene } from '../agent-under-test.ts'
import { startProvider, type RunningProvider } from './identity-provider.ts'
import { vouch, type Vouching } from './vouching.ts'

export interface World { readonly scene: Scene; readonly provider: RunningProvider; readonly vouching: Vouching }
export async function world(over?: Parameters<typeof startProvider>[0]): Promise<World> {
  const provider = await startProvider(over)
  onEnd(() => provider.close())
  const scene = await enrolledScene()
  const vouching = vouch(scene.ems, provider)
  await scene.start()
  return { scene, provider, vouching }
}

export interface Said { readonly code: number; readonly out: string; readonly err: string }
/** A command in this process. */
export async function agent(scene: Scene, ...words: string[]): Promise<Said> {
  const said = { out: '', err: '' }
  const code = await agentCommand([...words, '--state', scene.directory], { out: (line) => { said.out += `${line}\n` }, err: (line) => { said.err += `${line}\n` } })
  return { code, ...said }
}
/** Begins `agent sign-in`; resolves when it has printed where to go. */
export async function begun(scene: Scene, ...words: string[]): Promise<{ address: string; redirect: URL; state: string; ended: Promise<Said> }> {
  const said = { out: '', err: '' }
  const ended = agentCommand(['sign-in', '--no-browser', ...words, '--state', scene.directory], { out: (line) => { said.out += `${line}\n` }, err: (line) => { said.err += `${line}\n` } }).then((code) => ({ code, ...said }))
  const address = await happened('the address', () => /^ +(http\S+)$/m.exec(said.err)?.[1])
  const { searchParams } = new URL(address)
  return { address, redirect: new URL(searchParams.get('redirect_uri') ?? ''), state: searchParams.get('state') ?? '', ended }
}

// An enrolled agent, an EMS that believes one real provider, the agent's commands as the person calls them, and its address as others may knock at it.
import { once } from 'node:events'
import { request, type IncomingMessage } from 'node:http'
import { connect } from 'node:net'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
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

/** The agent's program, for commands that need a process of their own. */
export const program = fileURLToPath(new URL('../../../agent/main.ts', import.meta.url))

/** One request to the agent's address, as somebody else may make it. */
export async function knock(port: string, path: string, over: { method?: string; host?: string } = {}): Promise<{ status: number; text: string; headers: Record<string, unknown> }> {
  const asked = request({ host: '127.0.0.1', port, path, method: over.method ?? 'GET', headers: { host: over.host ?? `127.0.0.1:${port}` }, agent: false })
  asked.end()
  const [response] = await once(asked, 'response') as [IncomingMessage]
  return { status: response.statusCode ?? 0, text: await text(response), headers: response.headers }
}
export const isClosed = async (port: string): Promise<boolean> => {
  const socket = connect({ host: '127.0.0.1', port: Number(port) })
  return await new Promise((resolve) => {
    socket.once('connect', () => { socket.destroy(); resolve(false) })
    socket.once('error', () => resolve(true))
  })
}

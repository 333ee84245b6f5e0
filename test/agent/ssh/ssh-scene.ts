// A running agent, a real gateway whose SSH CA a real sshd trusts, and the agent's commands as the person calls them.
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import { readIdentity } from '../../../agent/certificates/identity-store.ts'
import type { VerifiedUser } from '../../../protocol/identity.ts'
import { cleanUp, issue, record, startEcho, startGate, userOf, type Gate } from '../../gateway/proxy/gate-under-test.ts'
import { login, newKey, publishedAuthority, scratch, startSshd, type KeyFile, type Sshd } from '../../gateway/ssh/sshd-under-test.ts'
import { enrolledScene, happened, onEnd, temporaryDirectory, type Scene } from '../agent-under-test.ts'
import { UID } from '../ems-double.ts'

export const HOST = 'host.test'
export const ADA = 'ada@corp.test'
const SERIAL = 'SPGW0123456789AB'
const program = fileURLToPath(new URL('../../../agent/main.ts', import.meta.url))

export interface Ran { readonly code: number | null; readonly out: string; readonly err: string }
export interface SshScene {
  readonly agent: Scene
  readonly gate: Gate
  readonly host: Sshd
  /** Of the person: nothing of this machine's own ssh is touched. */
  readonly home: string
  readonly echoPort: number
  /** Whom an identity provider vouches for from now on; null: nobody. */
  vouch(user: VerifiedUser | null, tags?: readonly string[]): void
  /** Begins a command of the agent. */
  begin(...words: string[]): ChildProcess
  run(...words: string[]): Promise<Ran>
  /** Runs another program as the person. */
  program(file: string, args: readonly string[], env?: Record<string, string>): Promise<Ran>
}

const ended = async (child: ChildProcess): Promise<Ran> => {
  const [out, err, [code]] = await Promise.all([child.stdout === null ? '' : text(child.stdout), child.stderr === null ? '' : text(child.stderr), once(child, 'exit') as Promise<[number | null]>])
  return { code, out, err }
}

/** @param part the `ssh` of the service, as YAML; `KEY` stands for the host's key */
export async function sshScene(part = '{hostKeys: ["KEY"]}'): Promise<SshScene> {
  onEnd(cleanUp)
  const agent = await enrolledScene()
  const identity = await readIdentity(agent.directory)
  const [active] = agent.ems.cas
  if (identity === null || active === undefined) throw new Error('not enrolled')
  const credential = { cert: identity.certificatePem, key: identity.privateKeyPem, serial: identity.serial, notAfter: identity.notAfter, purpose: 'agent' as const }
  const echo = await startEcho()
  onEnd(() => Promise.resolve(echo.close()))
  const hostKey: KeyFile = await newKey(scratch(), 'host')
  const policies = (port: number) => `
services:
  - {name: shell, protocol: tcp, match: [${HOST}], ports: [22, 2222], upstream: "127.0.0.1:${port}", ssh: ${part.replace('KEY', hostKey.line)}}
  - {name: echo, protocol: tcp, match: [echo.test], ports: [7], upstream: "127.0.0.1:${echo.port}"}
policies: [{name: staff, services: [shell, echo], tags: {all: [compliant]}, action: allow}]
`
  const gate = await startGate(policies(1), { serial: SERIAL, like: { authority: active.authority, agent: credential, browser: await issue(active.authority, UID, 'browser') } })
  const host = await startSshd({ principals: [ADA, 'ada'], trusts: await publishedAuthority(gate), hostKey, more: ['Subsystem sftp internal-sftp'] })
  gate.putPolicies(policies(host.port))
  const vouch: SshScene['vouch'] = (user, tags) => gate.change({ endpoints: new Map([[UID, record(UID, [credential], { ...(user === null ? {} : { user }), ...(tags === undefined ? {} : { tags: new Map(tags.map((tag) => [tag, { validUntil: null }])) }) })]]) })
  vouch(userOf(ADA))
  agent.ems.setProfile({ gateways: [{ serial: SERIAL, host: '127.0.0.1', port: gate.proxy.port }], destinations: [{ match: '*.test', ports: [{ from: 1, to: 65_535 }], gateway: SERIAL }] })
  const running = await agent.start()
  await happened('the proxy', () => running.tunnel().running)
  await happened('the profile', () => agent.told('document-applied').some(({ kind }) => kind === 'profile'))
  const home = await temporaryDirectory()
  await mkdir(join(home, 'tmp'))
  const environment = { PATH: process.env.PATH ?? '', HOME: home, TMPDIR: join(home, 'tmp') }
  const begin = (file: string, args: readonly string[], env: Record<string, string> = {}): ChildProcess => {
    const child = spawn(file, args, { stdio: ['pipe', 'pipe', 'pipe'], env: { ...environment, ...env } })
    onEnd(async () => {
      if (child.exitCode !== null || child.signalCode !== null) return
      child.kill('SIGKILL')
      await once(child, 'exit')
    })
    return child
  }
  const beginAgent = (...words: string[]) => {
    const [verb = '', ...rest] = words
    return begin(process.execPath, [program, verb, '--state', agent.directory, ...rest])
  }
  const finish = (child: ChildProcess) => {
    child.stdin?.end()
    return ended(child)
  }
  return {
    agent, gate, host, home, echoPort: echo.port, vouch, begin: beginAgent,
    run: (...words) => finish(beginAgent(...words)), program: (file, args, env) => finish(begin(file, args, env)),
  }
}
export { ended, login, userOf }

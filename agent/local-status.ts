// What a running agent tells and takes on this machine: a unix socket in its state directory, open to its own account and to the enrolled user. One question a connection, JSON both ways.
import { chmod, chown, rm, stat } from 'node:fs/promises'
import { connect, createServer, type Socket } from 'node:net'
import { join } from 'node:path'
import { z } from 'zod'
import { decision } from '../protocol/decisions.ts'
import { providerName, verifiedUser } from '../protocol/identity.ts'
import { beginSignIn } from '../protocol/operations/sign-in.ts'
import { licenceState } from '../protocol/profile.ts'
import { tagExplanation } from '../protocol/rules.ts'
import { sshCertificateReply, sshCertificateRequest } from '../protocol/ssh.ts'
import { line } from '../protocol/text.ts'
import { sentenceFor } from './failure.ts'

const tunnel = z.discriminatedUnion('running', [
  z.object({ running: z.literal(true), httpPort: z.number(), socksPort: z.number() }), z.object({ running: z.literal(false), reason: z.string() }),
])
const denial = z.object({ at: z.number(), destination: z.string(), decision: z.string().nullable(), code: z.string(), reason: z.string(), message: z.string(), tags: z.array(z.string()) })
/** What `status` shows. Times are ms. */
export const agentStatus = z.object({
  enrolled: z.literal(true), uid: z.string(), ems: z.string(), version: z.string(),
  certificate: z.object({ serial: z.string(), notAfter: z.number() }),
  profile: z.object({ id: z.string(), name: z.string(), policy: z.string(), version: z.number() }).nullable(),
  licence: licenceState.nullable(),
  channel: z.enum(['connecting', 'open', 'waiting', 'closed']),
  lastReportAt: z.number().nullable(), sequence: z.number(), clockOffsetMs: z.number(), tunnel,
  /** The PAC file for a browser's settings; keep it to yourself. Null while the proxy does not run. */
  pacUrl: z.string().nullable(),
  /** What programs without proxy settings reach, and what they do not and why; null while the proxy does not run. */
  transparent: z.object({ asked: z.boolean(), served: z.array(z.string()).readonly(), lacking: z.array(z.string()).readonly() }).nullable(),
  /** Names and states; null when the EMS could not be asked. */
  tags: z.array(z.object({
    tag: z.string(), state: z.enum(['present', 'absent', 'unknown']),
    /** It would come with a verified user who is not signed in. */
    needsSignIn: z.literal(true).optional(),
  })).nullable(),
  /** Whom an identity provider vouched for on this machine, as the EMS has it now. */
  identity: z.discriminatedUnion('state', [z.object({ state: z.literal('nobody') }), z.object({ state: z.literal('somebody'), provider: z.string(), user: verifiedUser }), z.object({ /** The EMS could not be asked. */ state: z.literal('unknown') })]),
  denials: z.array(denial),
  /** What is wrong with the agent itself, and what to do about it. */
  troubles: z.array(z.object({ kind: z.enum(['ems', 'storage', 'renewal', 'section', 'documents', 'user', 'browsers', 'gateways']), since: z.number(), sentence: z.string() })),
})
export type AgentStatus = z.infer<typeof agentStatus>

/** What `explain` shows: a decision, as the gateway or this agent knows it, or a tag. */
export const explanation = z.object({
  denial: denial.nullable(), decision: decision.nullable(), tags: z.array(tagExplanation),
})
export type Explanation = z.infer<typeof explanation>

/** Where the local proxy takes CONNECT, and whom it serves. */
export const proxyPlace = z.object({ httpPort: z.number().nullable(), reason: z.string(), ownerUid: z.number() })
/** Whether a gateway leads to a place. */
export const protection = z.object({ protects: z.boolean() })
/** A sign-in that the EMS has begun, and what it takes to speak with the provider from this machine. */
export const signInBegun = beginSignIn.reply.extend({ tlsCa: z.array(z.string()), clockOffsetMs: z.number(), ownerUid: z.number() })
export type SignInBegun = z.infer<typeof signInBegun>

/** What became of a request for an SSH certificate. */
export const sshCertificateAnswer = z.discriminatedUnion('outcome', [
  z.object({ outcome: z.literal('issued'), reply: sshCertificateReply, /** ms that it is good for, from now on: this machine's clock may be wrong. */ leftMs: z.number() }),
  z.object({ /** A gateway leads there, and gives no certificates for it. */ outcome: z.literal('none') }), z.object({ /** No gateway leads there. */ outcome: z.literal('unprotected') }),
  z.object({ outcome: z.literal('refused'), denial }), z.object({ outcome: z.literal('unreachable'), message: z.string() }),
])
export type SshCertificateAnswer = z.infer<typeof sshCertificateAnswer>

const question = z.discriminatedUnion('ask', [
  z.object({ ask: z.literal('status') }), z.object({ ask: z.literal('explain'), subject: z.string().max(256) }), z.object({ ask: z.literal('proxy') }),
  z.object({ ask: z.literal('protects'), host: sshCertificateRequest.shape.host, port: sshCertificateRequest.shape.port }),
  z.object({ ask: z.literal('begin-sign-in'), provider: line(64).optional() }), z.object({ ask: z.literal('sign-in'), provider: providerName, idToken: z.string().max(60_000) }), z.object({ ask: z.literal('sign-out') }),
  z.object({ ask: z.literal('ssh-certificate'), ...sshCertificateRequest.shape }),
])
const answer = z.object({ ok: z.boolean(), value: z.unknown(), message: z.string().optional() })
export type Question = z.infer<typeof question>
/** An ID token may list many groups. */
const MAX_QUESTION_BYTES = 65_536
/** The enrolled user may be another than the agent's account: theirs are not all the descriptors that it has. */
const MAX_CONNECTIONS = 64
/** Longer than the agent itself waits for its EMS. */
const ANSWER_WITHIN_MS = 40_000
/** What a socket's address holds on Linux; a little less elsewhere. */
const MAX_SOCKET_PATH_BYTES = 103

export const statusSocket = (stateDirectory: string): string => join(stateDirectory, 'status.sock')

/**
 * Lets the enrolled user at the socket of an agent that runs as root. Who may not write a socket can not connect to it: the kernel looks at each peer's
 * owner (decision 11), and there is no moment at which it could not tell.
 */
async function letIn(stateDirectory: string, path: string, ownerUid: number | undefined): Promise<void> {
  await chmod(path, 0o600)
  if (ownerUid === undefined || ownerUid === 0 || process.getuid?.() !== 0) return
  await chown(path, ownerUid, -1)
  // The way through, to nobody's list of names; every other file in there is its own lock.
  await chmod(stateDirectory, ((await stat(stateDirectory)).mode & 0o777) | 0o011)
}

/**
 * Answers questions until it is closed. Call it under the lock of the directory: a socket that stands there is a dead agent's.
 * @param ownerUid who is answered beside this account and root; nobody unless said
 */
export async function serveStatus(stateDirectory: string, tell: (question: Question) => Promise<unknown>, ownerUid?: number): Promise<{ close(): Promise<void> }> {
  const path = statusSocket(stateDirectory)
  if (Buffer.byteLength(path) > MAX_SOCKET_PATH_BYTES) throw new Error(`The path of the state directory is too long for a socket in it (${path}). Choose a shorter one by --state.`)
  await rm(path, { force: true })
  const sockets = new Set<Socket>()
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    sockets.add(socket)
    socket.once('close', () => sockets.delete(socket))
    let text = ''
    socket.setTimeout(ANSWER_WITHIN_MS, () => socket.destroy())
    socket.setEncoding('utf8')
    socket.on('error', () => socket.destroy())
    socket.on('data', (chunk) => {
      text += String(chunk)
      if (text.length > MAX_QUESTION_BYTES) socket.destroy()
    })
    socket.on('end', () => {
      const asked = question.safeParse(parseJson(text))
      const told = asked.success ? tell(asked.data).then((value) => ({ ok: true, value })) : Promise.reject(new Error('not a question that this agent knows'))
      void told.catch((cause: unknown) => ({ ok: false, value: null, message: sentenceFor(cause) })).then((reply) => socket.end(JSON.stringify(reply)))
    })
  })
  server.maxConnections = MAX_CONNECTIONS
  await new Promise<void>((resolve, reject) => {
    // Stays: a connection that can not be accepted (no descriptors left) is no reason to end the agent.
    server.on('error', reject)
    // The directory may be open to be gone through, or looked into: not for an instant may the socket be too. It is made before `listen` returns.
    const before = process.umask(0o077)
    try {
      server.listen(path, resolve)
    } finally {
      process.umask(before)
    }
  })
  await letIn(stateDirectory, path, ownerUid)
  return {
    close: () => new Promise((resolve) => {
      server.close(() => resolve())
      for (const socket of sockets) socket.destroy()
    }),
  }
}

/** Asks the running agent; null when none runs. Throws what it answers instead. */
export async function askAgent(stateDirectory: string, asked: Question): Promise<unknown> {
  const text = await new Promise<string | null>((resolve, reject) => {
    const socket = connect(statusSocket(stateDirectory))
    let told = ''
    socket.setEncoding('utf8')
    socket.setTimeout(ANSWER_WITHIN_MS, () => socket.destroy(new Error('The agent does not answer.')))
    socket.on('connect', () => socket.end(JSON.stringify(asked)))
    socket.on('data', (chunk) => { told += String(chunk) })
    socket.on('close', () => resolve(told))
    socket.on('error', (cause: NodeJS.ErrnoException) => (cause.code === 'ENOENT' || cause.code === 'ECONNREFUSED' ? resolve(null) : reject(cause)))
  })
  if (text === null) return null
  const read = answer.safeParse(parseJson(text))
  if (!read.success) throw new Error('The agent ended before it had answered. Is it still running?')
  if (!read.data.ok) throw new Error(read.data.message ?? 'The agent could not answer.')
  return read.data.value
}

const parseJson = (text: string): unknown => {
  try {
    return JSON.parse(text)
  } catch {
    return null // not JSON: neither a question nor an answer
  }
}

// Which EMS is asked, with which token and TLS root. It opens no connection.
import { createReadStream, statSync } from 'node:fs'
import { readFile, stat } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { z } from 'zod'
import { UsageError } from '../node/config.ts'
import { readJson } from '../node/key-store.ts'
import { pieces, type Io } from './io.ts'

/** What the command line says of it. `local` is the directory of an emulation. */
export interface Where { readonly ems?: string; readonly tokenFile?: string; readonly tlsCa?: string; readonly local?: string }

export interface Connection {
  /** https origin. */
  readonly ems: string
  /** null where none is given: only for commands that need none. */
  readonly token: string | null
  /** Where the token came from, for the sentence when it is refused. */
  readonly tokenFrom: string
  readonly tlsCa: readonly string[]
  /** The directory of the local emulation, when it is one. */
  readonly local: string | null
  /** What people should be told before anything is done. */
  readonly notes: readonly string[]
}

const secrets = z.object({ adminToken: z.string(), port: z.number().int() })
/** Whether a local emulation keeps its data there. */
export const holdsEmulation = (directory: string): boolean => statSync(join(directory, 'secrets.json'), { throwIfNoEntry: false })?.isFile() ?? false

/** Throws `UsageError` when it is not said which EMS, or no token is given and the command needs one. */
export async function findConnection(where: Where, io: Io, needsToken: boolean): Promise<Connection> {
  const { environment } = io
  if (where.local !== undefined) return await localConnection(where.local, [])
  const ems = where.ems ?? environment.ems
  const found = join(io.directory, '.sallyport')
  const nothingGiven = [ems, where.tokenFile, where.tlsCa, environment.token].every((value) => value === undefined)
  if (nothingGiven && holdsEmulation(found)) return await localConnection(found, [`No EMS is named; asking the local one, whose data is in ${found}.`])
  if (ems === undefined) throw new UsageError('Say which EMS: --ems https://ems.example.com, SALLYPORT_EMS, or --local for the one that npm start runs on this machine.')
  const { token, tokenFrom, notes } = await findToken(where, io)
  if (token === null && needsToken) throw new UsageError('Give the administrator\'s token in SALLYPORT_TOKEN, or in a file with --token-file FILE.')
  const tlsCa = where.tlsCa ?? environment.tlsCa
  return { ems: readOrigin(ems), token, tokenFrom, tlsCa: tlsCa === undefined ? [] : [await readRoot(resolve(io.directory, tlsCa))], local: null, notes }
}

async function localConnection(directory: string, notes: readonly string[]): Promise<Connection> {
  const file = join(directory, 'secrets.json')
  const kept = await readJson(file, secrets)
  if (kept === null) throw new Error(`No local EMS keeps its data in ${directory}. npm start begins one; npm start -- --directory DIR keeps it elsewhere.`)
  return { ems: `https://localhost:${kept.port}`, token: kept.adminToken, tokenFrom: file, tlsCa: [await readRoot(join(directory, 'tls-ca.pem'))], local: directory, notes }
}

async function findToken({ tokenFile }: Where, { environment, directory }: Io): Promise<Pick<Connection, 'token' | 'tokenFrom' | 'notes'>> {
  if (tokenFile === undefined) return { token: environment.token === undefined ? null : readToken(environment.token, 'SALLYPORT_TOKEN'), tokenFrom: 'SALLYPORT_TOKEN', notes: [] }
  const path = resolve(directory, tokenFile)
  const token = readToken(await readText(path), tokenFile)
  // Windows keeps no such bits.
  const open = process.platform !== 'win32' && ((await stat(path)).mode & 0o077) !== 0
  return { token, tokenFrom: tokenFile, notes: open ? [`Others on this machine may read ${tokenFile}: chmod 600 it.`] : [] }
}

/** A token with anything else in it could not stand in a header; it is never printed. */
function readToken(text: string, from: string): string {
  const token = text.trim()
  if (!/^[!-~]{1,512}$/.test(token)) throw new UsageError(`What ${from} holds is no token: it is one word of printable ASCII, 512 characters at most.`)
  return token
}

function readOrigin(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : null
  const plain = url !== null && url.pathname === '/' && url.search === '' && url.hash === '' && url.username === '' && url.password === ''
  if (url === null || !plain || url.protocol !== 'https:') throw new UsageError(`The EMS is named by its origin, like https://ems.example.com${url?.protocol === 'http:' ? ': without TLS the token would be read on the way' : ''}; not "${text}".`)
  return url.origin
}

async function readRoot(path: string): Promise<string> {
  const pem = await readText(path)
  if (!pem.includes('-----BEGIN CERTIFICATE-----')) throw new Error(`${path} holds no certificate in PEM.`)
  return pem
}

/** The text of a file that somebody named. */
export async function readText(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8')
  } catch (cause) {
    throw new Error(`${path} can not be read (${(cause as NodeJS.ErrnoException).code ?? 'unknown'}).`, { cause })
  }
}
/** The same, piece by piece. */
export async function* readPieces(path: string): AsyncGenerator<string> {
  try {
    yield* pieces(createReadStream(path))
  } catch (cause) {
    throw new Error(`${path} can not be read (${(cause as NodeJS.ErrnoException).code ?? 'unknown'}).`, { cause })
  }
}

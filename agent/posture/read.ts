// How probes look at the machine: bounded files and bounded commands. Not there and not permitted are answers, not failures.
import { execFile } from 'node:child_process'
import { constants } from 'node:fs'
import { open, opendir, readFile, readdir, readlink, stat, type FileHandle } from 'node:fs/promises'
import { constants as constantsOfOs, platform, setPriority } from 'node:os'
import { unprintable } from '../../protocol/text.ts'

/** What makes a file unreadable for a probe without anything being wrong with the agent. */
const expected = new Set(['ENOENT', 'ENOTDIR', 'EACCES', 'EPERM', 'EINVAL', 'EIO', 'EISDIR', 'ENODEV', 'ESRCH', 'ELOOP', 'ENXIO', 'ENAMETOOLONG', 'ESTALE'])
/** Whether an error only says what a file is or is not; what remains (no descriptors, no memory) says nothing about the machine's state. */
export const tellsOfFile = (cause: unknown): boolean => expected.has((cause as NodeJS.ErrnoException).code ?? '')
const orNull = (cause: unknown): null => {
  if (tellsOfFile(cause)) return null
  throw cause
}

/** The text of a small system file; null when it is not there or not for us. */
export const readText = (path: string): Promise<string | null> => readFile(path, 'utf8').catch(orNull)
/** The names in a directory; null like {@link readText}. */
export const readNames = (path: string): Promise<string[] | null> => readdir(path).catch(orNull)
/** Where a symbolic link points; null like {@link readText}. */
export const readTarget = (path: string): Promise<string | null> => readlink(path).catch(orNull)

/** Whether something is there, links followed. What may not be looked at is not there for us. */
export const isThere = async (path: string): Promise<boolean> => await stat(path).catch(orNull) !== null

/** Opens a file whose name belongs to somebody else: a pipe that it was swapped for must not hold up the agent, so opening never waits. Null like {@link readText}. */
export const openForeign = (path: string): Promise<FileHandle | null> => open(path, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY).catch(orNull)

/**
 * The first `maxBytes` of a file that somebody else may have put there; null when it is not there, not for us, or no plain file.
 * @param owner where the agent may read more than this user, the file must be the user's own: a link to another's file would publish it. null: whoever's
 */
export async function readForeign(path: string, maxBytes: number, owner: number | null): Promise<Buffer | null> {
  const handle = await openForeign(path)
  if (handle === null) return null
  try {
    const facts = await handle.stat()
    if (!facts.isFile() || (owner !== null && facts.uid !== owner)) return null
    const bytes = Buffer.alloc(Math.min(maxBytes, facts.size))
    let length = 0
    for (let read = 1; read > 0 && length < bytes.length; length += read) read = (await handle.read(bytes, length, bytes.length - length, length)).bytesRead
    return bytes.subarray(0, length)
  } catch (cause) {
    return orNull(cause)
  } finally {
    await handle.close()
  }
}

/** At most so many names of a directory that somebody else may have filled, in no order; null like {@link readText}. */
export async function readNamesUpTo(path: string, most: number): Promise<string[] | null> {
  try {
    const names: string[] = []
    for await (const { name } of await opendir(path, { bufferSize: 256 })) if (names.push(name) >= most) break
    return names
  } catch (cause) {
    return orNull(cause)
  }
}

/** Administrators' tools lie outside a plain user's PATH. The locale is fixed: output is parsed. */
const COMMAND_ENVIRONMENT: NodeJS.ProcessEnv = platform() === 'win32'
  ? { PATH: 'C:\\Windows\\System32;C:\\Windows', SystemRoot: 'C:\\Windows', windir: 'C:\\Windows', TEMP: 'C:\\Windows\\Temp', TMP: 'C:\\Windows\\Temp' }
  : { PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', LC_ALL: 'C.UTF-8' }
const MAX_OUTPUT_BYTES = 16 * 1024 * 1024

/** Runs a command for its standard output; null when it is not installed, fails, says too much, takes too long or is called off. */
export type RunCommand = (file: string, args: readonly string[], timeoutMs?: number) => Promise<string | null>

export async function readCommand(file: string, args: readonly string[], timeoutMs = 20_000, signal?: AbortSignal): Promise<string | null> {
  return await new Promise((resolve) => {
    const child = execFile(file, args, { env: COMMAND_ENVIRONMENT, timeout: timeoutMs, maxBuffer: MAX_OUTPUT_BYTES, encoding: 'utf8', killSignal: 'SIGKILL', windowsHide: true, ...(signal === undefined ? {} : { signal }) }, (error, stdout) => resolve(error === null ? stdout : null))
    yieldToOthers(child.pid)
  })
}

/** What a probe wants to know can wait: it takes no time from the user's own programs. */
function yieldToOthers(pid: number | undefined): void {
  if (pid === undefined) return
  try {
    setPriority(pid, constantsOfOs.priority.PRIORITY_LOW)
  } catch (cause) {
    // It has ended already, or it is not ours to slow down (it changed its user).
    if (!['ESRCH', 'EACCES', 'EPERM'].includes((cause as { info?: { code?: string } }).info?.code ?? '')) throw cause
  }
}

/** What a tool printed as JSON; undefined when it is none. */
export function parseJson(text: string): unknown {
  try {
    // Windows' tools begin with a byte order mark.
    return JSON.parse(text.replace(/^\ufeff/, ''))
  } catch {
    return undefined // whoever reads it checks its shape, which this is not
  }
}

/** Everywhere in a text: one odd package name must not cost the whole section. */
const unprintables = new RegExp(unprintable, 'gu')

/** A system's own text as one bounded line. Cutting may halve a character; half a character has no canonical JSON, so it is replaced. */
export const asLine = (text: string, max: number): string => text.replace(unprintables, ' ').trim().slice(0, max).toWellFormed()

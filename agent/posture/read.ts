// How probes look at the machine: bounded files and bounded commands. Not there and not permitted are answers, not failures.
import { execFile } from 'node:child_process'
import { readFile, readdir, readlink } from 'node:fs/promises'

/** What makes a file unreadable for a probe without anything being wrong with the agent. */
const expected = new Set(['ENOENT', 'ENOTDIR', 'EACCES', 'EPERM', 'EINVAL', 'EIO', 'EISDIR', 'ENODEV', 'ESRCH', 'ELOOP'])
const orNull = (cause: unknown): null => {
  if (expected.has((cause as NodeJS.ErrnoException).code ?? '')) return null
  throw cause
}

/** The text of a small system file; null when it is not there or not for us. */
export const readText = (path: string): Promise<string | null> => readFile(path, 'utf8').catch(orNull)
/** The names in a directory; null like {@link readText}. */
export const readNames = (path: string): Promise<string[] | null> => readdir(path).catch(orNull)
/** Where a symbolic link points; null like {@link readText}. */
export const readTarget = (path: string): Promise<string | null> => readlink(path).catch(orNull)

/** Administrators' tools lie outside a plain user's PATH. The locale is fixed: output is parsed. */
const COMMAND_ENVIRONMENT = { PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', LC_ALL: 'C.UTF-8' }
const MAX_OUTPUT_BYTES = 16 * 1024 * 1024

/** Standard output of a command; null when it is not installed, fails, says too much, takes too long or is called off. */
export async function readCommand(file: string, args: readonly string[], timeoutMs = 20_000, signal?: AbortSignal): Promise<string | null> {
  return await new Promise((resolve) => {
    execFile(file, args, { env: COMMAND_ENVIRONMENT, timeout: timeoutMs, maxBuffer: MAX_OUTPUT_BYTES, encoding: 'utf8', killSignal: 'SIGKILL', ...(signal === undefined ? {} : { signal }) }, (error, stdout) => resolve(error === null ? stdout : null))
  })
}

// The same characters that protocol/text.ts refuses: one odd package name must not cost the whole section.
// eslint-disable-next-line no-control-regex -- naming control characters is the point
const unprintable = /[\u0000-\u001f\u007f-\u009f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]/gu

/** A system's own text as one bounded line. */
export const asLine = (text: string, max: number): string => text.replace(unprintable, ' ').trim().slice(0, max)

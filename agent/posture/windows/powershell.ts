// Windows' own tools by their full paths: what a user puts into a PATH is never run. PowerShell is given constant scripts only, and answers in JSON.
import { z } from 'zod'
import { parseJson, type RunCommand } from '../read.ts'

/** Windows need not lie there; then nothing is known, and no other directory is believed. */
export const SYSTEM32 = 'C:\\Windows\\System32'
const POWERSHELL = `${SYSTEM32}\\WindowsPowerShell\\v1.0\\powershell.exe`
/** Otherwise names come in the console's code page. A failing cmdlet is silent: what it would have said is missing. No double quotes: they would have to survive the command line. */
const PREAMBLE = '[Console]::OutputEncoding=[Text.Encoding]::UTF8;$ErrorActionPreference=\'SilentlyContinue\';$ProgressPreference=\'SilentlyContinue\';'
const TIMEOUT_MS = 60_000

/** Runs a script whose last pipeline is turned into JSON; undefined when it can't be run, or says nothing. `script` is never made of what somebody else says. */
export async function askPowerShell(run: RunCommand, script: string): Promise<unknown> {
  const text = await run(POWERSHELL, ['-NoLogo', '-NoProfile', '-NonInteractive', '-ExecutionPolicy', 'Bypass', '-Command', `${PREAMBLE}${script} | ConvertTo-Json -Compress -Depth 4`], TIMEOUT_MS)
  return text === null || text.trim() === '' ? undefined : parseJson(text)
}

/** `ConvertTo-Json` makes one result an object and several a list. What has another shape than wanted is left out. */
export function rowsOf<T>(shape: z.ZodType<T>, told: unknown): T[] {
  return (Array.isArray(told) ? told : told === undefined || told === null ? [] : [told]).flatMap((row: unknown) => {
    const read = shape.safeParse(row)
    return read.success ? [read.data] : []
  })
}

/** A date of `ConvertTo-Json`: `/Date(ms)/` in Windows PowerShell, ISO 8601 in later ones. */
export const dateText = z.string().transform((text, context) => {
  const at = Number(/^\/Date\((-?\d{1,15})\)\/$/.exec(text)?.[1] ?? Date.parse(text))
  if (Number.isInteger(at) && at >= 0) return at
  context.addIssue({ code: 'custom', message: 'is no date' })
  return z.NEVER
})

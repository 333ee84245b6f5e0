// Values of the Windows registry by `reg query`, whose words for errors are translated: what is missing is proved by the list of what is there.
import type { RegistryValue } from '../../../domain/tagging/device.ts'
import type { RunCommand } from '../read.ts'
import { SYSTEM32 } from './powershell.ts'

const REG = `${SYSTEM32}\\reg.exe`
const kinds = { REG_SZ: 'string', REG_EXPAND_SZ: 'string', REG_LINK: 'string', REG_MULTI_SZ: 'strings', REG_DWORD: 'number', REG_DWORD_BIG_ENDIAN: 'number', REG_QWORD: 'number', REG_BINARY: 'bytes', REG_NONE: 'bytes' } as const

/** Rows of values: four blanks, name, four blanks, type, four blanks, data. */
const rowsIn = (text: string): string[] => text.split(/\r?\n/).filter((row) => /^ {4}.* {4}REG_[A-Z_]+( {4}|$)/.test(row))
const escaped = (text: string): string => text.replaceAll(/[.*+?^${}()|[\]\\]/g, '\\$&')

function readRow(row: string, name: RegExp): RegistryValue | null {
  const [, type, data = ''] = new RegExp(`^ {4}${name.source} {4}(REG_[A-Z_]+)(?: {4}(.*))?$`, 'i').exec(row) ?? []
  if (type === undefined) return null
  const kind = kinds[type.toUpperCase() as keyof typeof kinds] as (typeof kinds)[keyof typeof kinds] | undefined
  // The console could not say it, so neither can we.
  if (kind === undefined || data.includes('\ufffd')) return 'unreadable'
  if (kind === 'number') return /^0x[0-9a-f]{1,16}$/i.test(data) ? { exists: true, kind, value: BigInt(data).toString() } : 'unreadable'
  return { exists: true, kind, value: kind === 'strings' ? data.split('\\0').join('\n') : kind === 'bytes' ? data.toLowerCase() : data }
}

/** A value in the listing of its key; null: it is not there. @param defaults the key's default value as `reg query KEY /ve` prints it */
export function findValue(listing: string, name: string, defaults: string | null): RegistryValue | null {
  const rows = rowsIn(listing)
  if (name === '') {
    // Its name is translated, and so is "not set": a row that stands in the listing too is set.
    const row = rowsIn(defaults ?? '').find((each) => rows.includes(each))
    return row === undefined ? null : readRow(row, /\([^)]*\)/)
  }
  for (const row of rows) {
    const value = readRow(row, new RegExp(escaped(name)))
    if (value !== null) return value
  }
  return null
}

/** Whether a key is listed among those of the key above it. */
export const listsKey = (listing: string, key: string): boolean => listing.split(/\r?\n/).some((row) => row.trimEnd().toLowerCase() === key.toLowerCase())

/** @param account of the agent: a service has no hive of the user's */
export function windowsRegistry(run: RunCommand, account: string): (key: string, name: string | null) => Promise<RegistryValue> {
  const query = (key: string, ...args: string[]) => run(REG, ['query', key, ...args, '/reg:64'])

  /** True: it is not there. The nearest key above that can be read must list the way to it; where none can, nothing is known. */
  async function isMissing(key: string): Promise<boolean> {
    const above = key.slice(0, Math.max(0, key.lastIndexOf('\\')))
    if (above === '') return false
    const listing = await query(above)
    return listing === null ? await isMissing(above) : !listsKey(listing, key)
  }

  return async (key, name) => {
    if (/^HKEY_CURRENT_USER\\/i.test(key) && /^(SYSTEM|LOCAL SERVICE|NETWORK SERVICE)$/i.test(account)) return 'unreadable'
    const listing = await query(key)
    if (listing === null) return await isMissing(key) ? { exists: false, missing: 'key' } : 'unreadable'
    if (name === null) return { exists: true, kind: 'string', value: '' }
    return findValue(listing, name, name === '' ? await query(key, '/ve') : null) ?? { exists: false, missing: 'value' }
  }
}

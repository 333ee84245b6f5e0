// Which country an address is of, by the administrator's MMDB file; read again when it changes. What can't be told is unknown, never a guess.
import { readFile, stat } from 'node:fs/promises'
import { Reader, type Response } from 'mmdb-lib'
import { z } from 'zod'
import { readAddress } from '../../domain/access/host.ts'
import { countryCode, type Origin } from '../../domain/access/geo.ts'
import type { Log } from '../../node/logging.ts'
import type { Timers } from '../../node/timers.ts'

export interface Countries {
  /** @param source an address with its port, as sockets tell it */
  originOf(source: string): Origin
  /** Looks addresses up in this file from now on, null: in none; resolves when it has been read. */
  follow(file: string | null): Promise<void>
  /** Calls after another state of the file has been taken over. @returns takes the listener away */
  onChange(listener: () => void): () => void
  close(): void
}

/** The file is looked at, not watched: updaters replace it by renames and links. */
const LOOK_EVERY = 10_000
const MAX_KEPT = 20_000
/** Of no country, and not missing from the database either. */
const local = new Set(['loopback', 'private', 'uniqueLocal', 'linkLocal', 'carrierGradeNat'])

/** MaxMind and DB-IP nest the code; IPinfo and others name it in one word. */
const located = z.union([
  z.object({ country: z.object({ iso_code: countryCode }) }).transform(({ country }) => country.iso_code),
  z.object({ country_code: countryCode }).transform(({ country_code: code }) => code),
  z.object({ country: countryCode }).transform(({ country }) => country),
])
export interface CountryDatabase { countryOf(address: string): Uppercase<string> | null }

/** Opens a database. @throws Error when the file can't be read or is none */
export async function openCountryDatabase(file: string): Promise<CountryDatabase> {
  const reader = new Reader<Response>(await readFile(file))
  const countryOf = (address: string) => located.safeParse(reader.get(address)).data ?? null
  // A file that breaks off in its tree is found here, not by whoever comes first.
  for (const address of ['1.1.1.1', '223.255.255.254', ...(reader.metadata.ipVersion === 6 ? ['2001:4860::1'] : [])]) countryOf(address)
  return { countryOf: (address) => (reader.metadata.ipVersion === 4 && address.includes(':') ? null : countryOf(address)) }
}

export function createCountries({ timers, log }: { readonly timers: Timers; readonly log: Log }): Countries {
  let followed: string | null = null
  let seen = ''
  let database: CountryDatabase | null = null
  let broken = false
  let kept = new Map<string, Origin>()
  const listeners = new Set<() => void>()
  let stop = () => {}

  function take(next: CountryDatabase | null): void {
    database = next
    broken = false
    kept = new Map()
  }
  /** @returns whether another state of the file was taken over */
  async function look(): Promise<boolean> {
    const file = followed
    if (file === null) return false
    try {
      const { ino, mtimeMs, size } = await stat(file)
      const stamp = `${ino} ${mtimeMs} ${size}`
      if (stamp === seen) return false
      const next = await openCountryDatabase(file)
      if (file !== followed) return false
      take(next)
      seen = stamp
      log.info({ event: 'geo-database-loaded', file }, 'The database of countries was loaded.')
      return true
    } catch (cause) {
      // An update in place is unreadable for a moment: what was read before goes on.
      if (seen !== 'failed') log.error({ event: 'geo-database-unreadable', file, reason: cause instanceof Error ? cause.message : String(cause) }, 'The database of countries can not be used; the one before it stays, if there was one.')
      seen = 'failed'
      return false
    }
  }
  function lookAgain(): void {
    stop()
    if (followed === null) return
    stop = timers.after(LOOK_EVERY, () => {
      look().then((changed) => {
        if (changed) for (const listener of listeners) listener()
        lookAgain()
      }, (cause: Error) => log.fatal({ event: 'geo-database-broken', reason: cause.message }, 'The database of countries is no longer followed.'))
    })
  }
  function find(text: string): Origin {
    const address = readAddress(text)
    if (address === null) return 'unknown'
    if (local.has(address.range())) return 'nowhere'
    try {
      return database?.countryOf(address.toString()) ?? 'unknown'
    } catch (cause) {
      if (!broken) log.error({ event: 'geo-database-damaged', file: followed, reason: cause instanceof Error ? cause.message : String(cause) }, 'The database of countries is damaged; some addresses are unknown.')
      broken = true
      return 'unknown'
    }
  }
  return {
    originOf(source) {
      const address = source.slice(0, source.lastIndexOf(':'))
      const known = kept.get(address)
      if (known !== undefined) return known
      if (kept.size >= MAX_KEPT) kept.clear()
      const found = find(address)
      kept.set(address, found)
      return found
    },
    async follow(file) {
      if (file !== followed) {
        followed = file
        seen = ''
        take(null)
      }
      await look()
      lookAgain()
    },
    onChange(listener) {
      listeners.add(listener)
      return () => listeners.delete(listener)
    },
    close() {
      followed = null
      stop()
    },
  }
}

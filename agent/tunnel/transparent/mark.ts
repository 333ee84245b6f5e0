// That the machine is changed outside of the state directory, noted before it is: whatever a crash leaves there is found and put back.
import { rm } from 'node:fs/promises'
import { readPrivateFile, writePrivateFile } from '../../../node/key-store.ts'
import { systemFailure } from '../../failure.ts'
import { removeBlock } from './hosts-file.ts'
import { systemNft, type Nft } from './nft.ts'
import { removeTable } from './redirect.ts'

/** Where the machine is changed. */
export interface TransparentPlace {
  /** `/etc/hosts` */
  readonly hostsFile: string
  /** Stands while something outside the state directory is changed, so that what a crash leaves is found. */
  readonly marker: string
  readonly nft?: Nft
}
/** What stands in the marker: a table was made too, or is about to be. */
const WITH_TABLE = 'hosts and table\n'
const HOSTS_ONLY = 'hosts\n'

async function restoreHosts(hostsFile: string): Promise<string | null> {
  try {
    await removeBlock(hostsFile)
    return null
  } catch (cause) {
    const reason = systemFailure(cause)
    if (reason === null) throw cause
    return `${hostsFile}: ${reason}`
  }
}

/** Takes back what this agent, or one that was killed, has changed; does nothing where none was. @returns why it could not; null: the machine is as it was */
export async function restoreMachine({ hostsFile, marker, nft = systemNft }: TransparentPlace): Promise<string | null> {
  const changed = await readPrivateFile(marker)
  if (changed === null) return null
  const left = [await restoreHosts(hostsFile)]
  if (changed === WITH_TABLE) {
    const refusal = await removeTable(nft)
    left.push(refusal === null ? null : `${refusal} (by hand: nft delete table inet sallyport_agent)`)
  }
  const reasons = left.filter((reason) => reason !== null)
  if (reasons.length > 0) return reasons.join('; ')
  await rm(marker, { force: true })
  return null
}

export interface Mark {
  /** Whether something may be changed, by this agent or one before it. */
  stands(): Promise<boolean>
  /** Call it before the hosts file is changed. @returns why it may not be: what a crash left could not be found again */
  willChange(): Promise<string | null>
  /** Call it before the packet filter is changed; likewise. */
  willMakeTable(): Promise<string | null>
  /** This agent has no table: an earlier one's is taken away. */
  madeNoTable(): Promise<void>
  restore(): Promise<string | null>
}

export function createMark(place: TransparentPlace): Mark {
  const { marker, nft = systemNft } = place
  /** What the last agent has left; a table of its may stand. */
  let found: string | null = null
  let written: string | null = null
  async function write(text: string): Promise<string | null> {
    if (written === text) return null
    try {
      found ??= await readPrivateFile(marker)
      await writePrivateFile(marker, text)
      written = text
      return null
    } catch (cause) {
      const reason = systemFailure(cause)
      if (reason === null) throw cause
      return `${marker}: ${reason}`
    }
  }
  return {
    stands: async () => await readPrivateFile(marker) !== null,
    willChange: async () => (written === null ? await write(await readPrivateFile(marker) ?? HOSTS_ONLY) : null),
    willMakeTable: () => write(WITH_TABLE),
    async madeNoTable() {
      // Where none was ever made, none has to be taken away, by an agent that may not even look.
      if (written !== WITH_TABLE || (found === WITH_TABLE && await removeTable(nft) !== null)) return
      found = null
      await write(HOSTS_ONLY)
    },
    async restore() {
      const reason = await restoreMachine(place)
      if (reason === null) found = written = null
      return reason
    },
  }
}

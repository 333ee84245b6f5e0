// The Active Directory that a Mac is bound to, and the groups of the enrolled user.
import type { Sections } from '../../../protocol/facts.ts'
import { asLine, type RunCommand } from '../read.ts'

type Directory = Sections['directory']

/** `dsconfigad -show`: rows of `Name = Value`; nothing where the Mac is bound to no domain. */
export function parseBinding(text: string): NonNullable<Directory['joined']> {
  const domain = asLine(/^Active Directory Domain\s+= (\S+)\s*$/m.exec(text)?.[1]?.toLowerCase() ?? '', 253)
  return domain === '' ? [] : [{ kind: 'active-directory', domain }]
}

/** Names that `id -Gn` prints between blanks, as many as `id -G` counts: a name with a blank makes them unknown, for here they can't be told apart. */
export function parseGroupNames(names: string | null, numbers: string | null): NonNullable<Directory['groups']> | null {
  const words = (text: string | null) => text?.trim().split(/\s+/).filter((word) => word !== '') ?? []
  if (names === null || numbers === null || words(names).length !== words(numbers).length) return null
  return [...new Set(words(names).map((name) => asLine(name, 256)))].filter((name) => name !== '').sort().slice(0, 1024).map((name) => ({ name }))
}

/** `dscl . -read /Users/NAME OriginalNodeName`: the domain of an account that came from a directory. */
export const parseNode = (text: string): string => asLine(/^\s*\/Active Directory\/[^/\n]+\/([A-Za-z0-9.-]+)\s*$/m.exec(text)?.[1]?.toLowerCase() ?? '', 253)

/** @param account of the enrolled user; null when the system knows none */
export async function macosDirectory(run: RunCommand, account: string | null): Promise<Directory | null> {
  const binding = await run('/usr/sbin/dsconfigad', ['-show'])
  // A name is put into a path here; one that is more than a name is not asked for.
  const plain = account !== null && /^[\w][\w.@-]*$/.test(account) ? account : null
  const [names, numbers] = plain === null ? [null, null] : [await run('/usr/bin/id', ['-Gn', plain]), await run('/usr/bin/id', ['-G', plain])]
  const groups = parseGroupNames(names, numbers)
  // It fails where there is no such key, which a local account has not; so it does for other reasons.
  const node = plain === null ? null : await run('/usr/bin/dscl', ['.', '-read', `/Users/${plain}`, 'OriginalNodeName'])
  const domain = node === null ? '' : parseNode(node)
  const joined = binding === null ? null : parseBinding(binding)
  if (joined === null && groups === null && domain === '') return null
  return {
    ...(joined === null ? {} : { joined }), ...(domain !== '' ? { loggedInDomain: domain } : joined?.length === 0 ? { loggedInDomain: '' } : {}),
    ...(groups === null ? {} : { groups, groupsFrom: 'name-service' as const }),
  }
}

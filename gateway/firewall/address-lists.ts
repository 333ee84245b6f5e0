// Address lists by tag, as existing firewalls poll them and as programs verify them. It answers no request.
import { createHash } from 'node:crypto'
import ipaddr from 'ipaddr.js'
import { signAddressList } from '../../identity/address-list.ts'
import type { Signer } from '../../identity/document.ts'
import type { AddressList, ListFamily, ListState } from '../../protocol/address-list.ts'
import type { World } from '../world.ts'
import { setName, type Family } from './element.ts'
import type { TaggedAddresses } from './tagged-addresses.ts'

export interface ListShape { readonly tag: string; readonly family: ListFamily; readonly comments: boolean; readonly cidr: boolean }
/** A list as text and its entity tag: the same as long as nobody came or went. */
export interface RenderedList { readonly body: string; readonly etag: string }

export interface AddressLists {
  plain(shape: ListShape): RenderedList
  signed(shape: ListShape): Promise<RenderedList>
  /** Names of all tags that have lists. */
  tags(): string[]
}

interface Options {
  readonly world: World
  readonly addresses: TaggedAddresses
  readonly serial: string
  readonly signer: () => Signer
  /** ms. */
  readonly now: () => number
}

/** A signed list is made anew each minute and is good for five: a copy that somebody kept back is noticed. */
const SIGNED_EVERY_MS = 60_000
const SIGNED_FOR_MS = 300_000
const MAX_KEPT = 64

const families: Record<ListFamily, readonly Family[]> = { ip: ['ip4', 'ip6'], ip4: ['ip4'], ip6: ['ip6'], mac: ['mac'] }
const etagOf = (text: string) => `"${createHash('sha256').update(text).digest('base64url').slice(0, 27)}"`

/** Sorts by the number that an address is, not by its letters. */
const sorted = (family: Family, elements: readonly string[]): string[] => family === 'mac'
  ? elements.toSorted()
  : elements.map((text) => ({ text, bytes: Buffer.from(ipaddr.parse(text).toByteArray()) })).sort((a, b) => a.bytes.compare(b.bytes)).map(({ text }) => text)

export function createAddressLists({ world, addresses, serial, signer, now }: Options): AddressLists {
  /** The last signed form of each list, by what it says: a signature is never the same twice, and the entity tag must be. */
  const kept = new Map<string, Promise<string>>()

  function stateOf(tag: string): ListState {
    if (!addresses.isFresh()) return 'stale'
    return world.snapshot().tagsByName.has(tag) ? 'current' : 'no-such-tag'
  }

  function read({ tag, family }: ListShape): Pick<AddressList, 'state' | 'addresses'> {
    const state = stateOf(tag)
    const at = now()
    const inSet = (each: Family) => [...addresses.elementsOf(setName(each, tag))].flatMap(([element, until]) => (until > at ? [element] : []))
    return { state, addresses: state === 'current' ? families[family].flatMap((each) => sorted(each, inSet(each))) : [] }
  }

  return {
    plain(shape) {
      const { state, addresses: listed } = read(shape)
      const heading = ['# Sallyport address list', `# tag: ${shape.tag}`, `# seen by gateway: ${serial}`, `# state: ${state}`]
      const lines = listed.map((address) => (shape.cidr && shape.family !== 'mac' ? `${address}/${address.includes(':') ? 128 : 32}` : address))
      const body = [...shape.comments ? heading : [], ...lines].map((line) => `${line}\n`).join('')
      return { body, etag: etagOf(body) }
    },
    async signed(shape) {
      const at = Math.floor(now() / SIGNED_EVERY_MS) * SIGNED_EVERY_MS
      const list: AddressList = { gateway: serial, tag: shape.tag, family: shape.family, ...read(shape), revision: world.snapshot().revision, at, until: at + SIGNED_FOR_MS }
      const etag = etagOf(JSON.stringify(list))
      const before = kept.get(etag)
      const body = before ?? signAddressList(list, signer())
      kept.set(etag, body)
      if (kept.size > MAX_KEPT) kept.delete(kept.keys().next().value ?? '')
      return { body: await body, etag }
    },
    tags: () => (addresses.isFresh() ? [...world.snapshot().tagsByName.keys()].sort() : []),
  }
}

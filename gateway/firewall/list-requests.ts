// One request for an address list: who asks, how often, for what, and the answer. Without a token nothing can be learned here, not even which lists there are.
import type { IncomingHttpHeaders } from 'node:http'
import { z } from 'zod'
import { listFamily } from '../../protocol/address-list.ts'
import { gatewaySerial } from '../../protocol/ids.ts'
import { tagName } from '../../protocol/rules.ts'
import type { AddressLists, ListShape } from './address-lists.ts'
import { createAllowance } from './allowance.ts'
import { TOKEN_PREFIX } from './list-tokens.ts'

export interface ListRequest { readonly method: string; readonly target: string; readonly headers: IncomingHttpHeaders; readonly source: string }
export interface ListAnswer { readonly status: number; readonly headers: Readonly<Record<string, string>>; readonly body: string }

interface Options {
  readonly lists: AddressLists
  readonly serial: string
  /** The name of a token; null when it is none of ours. */
  readonly nameOf: (token: string) => Promise<string | null>
  /** ms. */
  readonly now: () => number
}

/** Firewalls poll once in a minute or five; a fleet behind one token may poll together. */
const POLLS = { burst: 60, perSecond: 2 }
const STRANGERS = { burst: 10, perSecond: 0.2 }

const yes = z.enum(['yes', 'no'])
const query = z.strictObject({ family: listFamily.default('ip'), comments: yes.default('yes'), cidr: yes.default('no') })

/** Bearer, or the password of Basic: many firewalls can send nothing else. Null when there is none. */
function tokenOf(authorization: string | undefined): string | null {
  const [, scheme = '', value = ''] = /^(Bearer|Basic) +([A-Za-z0-9+/=._~-]{1,512})$/i.exec(authorization ?? '') ?? []
  const token = scheme.toLowerCase() === 'basic' ? Buffer.from(value, 'base64').toString('latin1').replace(/^[^:]*:/, '') : value
  return token.startsWith(TOKEN_PREFIX) ? token : null
}

/** RFC 9110 §13.1.2: weak comparison, `*` matches anything there is. */
const matches = (ifNoneMatch: string | undefined, etag: string): boolean =>
  ifNoneMatch !== undefined && (ifNoneMatch.trim() === '*' || ifNoneMatch.split(',').some((each) => each.trim().replace(/^W\//, '') === etag))

/** A stranger may have a whole network of IPv6 addresses. */
const networkOf = (source: string): string => (source.includes(':') && !source.includes('.') ? source.split(':').slice(0, 4).join(':') : source)

const plainText = { 'content-type': 'text/plain; charset=utf-8' }
const refuse = (status: number, text: string, headers: Record<string, string> = {}): ListAnswer => ({ status, headers: { ...plainText, ...headers }, body: `${text}\n` })

interface Wanted { readonly tag: string; readonly signed: boolean }

/** `/lists/tags/NAME[/signed]`, or `/lists/devices/SERIAL/tags/NAME[/signed]` for this gateway's own sight by its serial. */
function readPath(pathname: string, serial: string): Wanted | null {
  const match = /^\/lists(?:\/devices\/([^/]+))?\/tags\/([^/]+)(\/signed)?$/.exec(pathname)
  if (match === null) return null
  const [, device = serial, encoded = '', signed] = match
  if (!gatewaySerial.safeParse(device).success || device !== serial) return null
  try {
    const tag = tagName.safeParse(decodeURIComponent(encoded)).data
    return tag === undefined ? null : { tag, signed: signed !== undefined }
  } catch {
    return null // a broken percent-encoding names no tag
  }
}

export function createListAnswers({ lists, serial, nameOf, now }: Options): (request: ListRequest) => Promise<ListAnswer> {
  const polls = createAllowance({ ...POLLS, now })
  const strangers = createAllowance({ ...STRANGERS, now })
  const tooMany = (seconds: number) => refuse(429, 'Too many requests.', { 'retry-after': String(seconds) })

  return async ({ method, target, headers, source }) => {
    const token = tokenOf(headers.authorization)
    const name = token === null ? null : await nameOf(token)
    const wait = name === null ? strangers.take(networkOf(source)) : polls.take(name)
    if (wait > 0) return tooMany(wait)
    if (name === null) return refuse(401, 'A token is needed: as bearer token, or as the password of basic authentication.', { 'www-authenticate': 'Bearer realm="address lists", Basic realm="address lists"' })
    if (method !== 'GET' && method !== 'HEAD') return refuse(405, 'Lists are only read.', { allow: 'GET, HEAD' })
    if (!URL.canParse(target, 'https://gateway')) return refuse(400, 'That is no address of a list.')
    const { pathname, searchParams } = new URL(target, 'https://gateway')
    if (pathname === '/lists') {
      const text = lists.tags().map((tag) => `/lists/tags/${encodeURIComponent(tag)}\n`).join('')
      return { status: 200, headers: { ...plainText, 'cache-control': 'no-store' }, body: text }
    }
    const wanted = readPath(pathname, serial)
    if (wanted === null) return refuse(404, 'There is no such list.')
    const asked = query.safeParse(Object.fromEntries(searchParams))
    if (!asked.success) return refuse(400, 'family is ip, ip4, ip6 or mac; comments and cidr are yes or no; there is nothing else.')
    const shape: ListShape = { tag: wanted.tag, family: asked.data.family, comments: asked.data.comments === 'yes', cidr: asked.data.cidr === 'yes' }
    const { body, etag } = wanted.signed ? await lists.signed(shape) : lists.plain(shape)
    // A cache may keep it, but must ask each time: an address may have lost its tag.
    const described = { etag, 'cache-control': 'private, no-cache', 'vary': 'Authorization' }
    if (matches(headers['if-none-match'], etag)) return { status: 304, headers: described, body: '' }
    return { status: 200, headers: { ...described, ...(wanted.signed ? { 'content-type': 'application/jose' } : plainText) }, body }
  }
}

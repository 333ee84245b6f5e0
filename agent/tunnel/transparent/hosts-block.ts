// The agent's marked block in the text of a hosts file. What others wrote is kept to the letter.
import { isOfNames } from './loopback-addresses.ts'

const BEGIN = '# >>> sallyport agent: these names are reached through a gateway. Kept by the agent; what is changed here is put back.'
const END = '# <<< sallyport agent'

/** The lines of one name. The mapped address answers who asks for IPv6 alone: with an IPv4 line only, that question would go out to a DNS server. */
const linesOf = ([name, address]: readonly [string, string]): string[] => [`${address} ${name}`, `::ffff:${address} ${name}`]
const isOurs = (line: string): boolean => /^(?:::ffff:)?(127\.\d+\.\d+\.\d+) \S+$/.exec(line)?.[1] !== undefined && isOfNames(line.replace('::ffff:', '').split(' ')[0] ?? '')

/** The text without any block of ours; also without one whose end somebody has taken away. */
export function withoutBlock(text: string): string {
  const kept: string[] = []
  let inside = false
  for (const line of text.split('\n')) {
    if (line.startsWith('# >>> sallyport agent')) inside = true
    else if (line === END) inside = false
    else if (!inside || !isOurs(line)) {
      inside = false
      kept.push(line)
    }
  }
  return kept.join('\n')
}

/** The text with one block. It comes first: of two lines for one name the first is taken, and an older one would lead past the gateway. */
export function withBlock(text: string, addresses: ReadonlyMap<string, string>): string {
  const rest = withoutBlock(text)
  return addresses.size === 0 ? rest : [BEGIN, ...[...addresses].flatMap(linesOf), END, rest].join('\n')
}

// The profile's protected destinations as a PAC file: a browser's answer to "through the proxy or not" without a look-up. It resolves no
// name, so none leaks, and says DIRECT for nothing that is protected.
import ipaddr from 'ipaddr.js'
import type { Destination } from '../../protocol/profile.ts'

type Ports = readonly (readonly [from: number, to: number])[]

/** An address as 16-bit numbers: two for IPv4, eight for IPv6. */
const groups = (address: ipaddr.IPv4 | ipaddr.IPv6): number[] => {
  const bytes = address.toByteArray()
  return Array.from({ length: bytes.length / 2 }, (_, at) => (bytes[at * 2] ?? 0) * 256 + (bytes[at * 2 + 1] ?? 0))
}

// ECMAScript 3: Windows still runs PAC files in an engine that knows no more. Keys begin with a blank: `constructor` is a host name too.
const program = `
function listed(ports, port) {
  for (var i = 0; ports && i < ports.length; i++) if (port >= ports[i][0] && port <= ports[i][1]) return true
  return false
}
function addressOf(host) {
  var quad = /^(\\d{1,3})\\.(\\d{1,3})\\.(\\d{1,3})\\.(\\d{1,3})$/.exec(host)
  if (quad) return [quad[1] * 256 + +quad[2], quad[3] * 256 + +quad[4]]
  if (host.indexOf(':') === -1) return null
  host = host.replace(/(\\d+)\\.(\\d+)\\.(\\d+)\\.(\\d+)$/, function (all, a, b, c, d) { return (a * 256 + +b).toString(16) + ':' + (c * 256 + +d).toString(16) })
  var halves = host.split('::'), left = halves[0] ? halves[0].split(':') : [], right = halves[1] ? halves[1].split(':') : [], found = [], i
  for (i = 0; i < left.length; i++) found.push(parseInt(left[i], 16))
  for (i = left.length + right.length; i < 8; i++) found.push(0)
  for (i = 0; i < right.length; i++) found.push(parseInt(right[i], 16))
  var mapped = found[5] === 65535
  for (i = 0; i < 5; i++) mapped = mapped && found[i] === 0
  return mapped ? found.slice(6) : found
}
function within(address, range, bits) {
  if (address.length !== range.length) return false
  for (var i = 0; bits > 0; i++, bits -= 16) if (bits < 16 ? address[i] >> (16 - bits) !== range[i] >> (16 - bits) : address[i] !== range[i]) return false
  return true
}
function FindProxyForURL(url, host) {
  var parts = /^([a-z]+):\\/\\/(?:[^\\/?#@]*@)?(?:\\[[^\\]]*\\]|[^:\\/?#]*)(?::(\\d+))?/i.exec(url), scheme = parts ? parts[1].toLowerCase() : ''
  var port = parts && parts[2] ? +parts[2] : { http: 80, ws: 80, https: 443, wss: 443, ftp: 21 }[scheme]
  host = host.toLowerCase().replace(/^\\[|\\]$/g, '').replace(/\\.$/, '')
  if (listed(names[' ' + host], port)) return proxy
  var address = addressOf(host), i
  if (address) {
    for (i = 0; i < ranges.length; i++) if (within(address, ranges[i][0], ranges[i][1]) && listed(ranges[i][2], port)) return proxy
    return 'DIRECT'
  }
  for (i = host.indexOf('.'); i !== -1; i = host.indexOf('.', i + 1)) if (listed(suffixes[' ' + host.substring(i + 1)], port)) return proxy
  return 'DIRECT'
}
`

/**
 * Writes the PAC file of a profile; it judges as `compileDestinations` does.
 * @param httpPort of the agent's HTTP proxy. There is no second choice behind it: what is protected never falls back to DIRECT
 */
export function pacScript(destinations: readonly Destination[], httpPort: number): string {
  const names = new Map<string, Ports>()
  const suffixes = new Map<string, Ports>()
  const ranges: [number[], number, Ports][] = []
  const add = (map: Map<string, Ports>, key: string, more: Ports) => map.set(` ${key}`, [...map.get(` ${key}`) ?? [], ...more])
  for (const { match, ports } of destinations) {
    const pairs = ports.map((port) => (typeof port === 'number' ? [port, port] as const : [port.from, port.to] as const))
    if (match.includes('/')) {
      const [address, bits] = ipaddr.parseCIDR(match)
      ranges.push([groups(address), bits, pairs])
    } else if (match.startsWith('*.')) add(suffixes, match.slice(2), pairs)
    else add(names, ipaddr.isValid(match) ? ipaddr.process(match).toString() : match, pairs)
  }
  const constants = { proxy: `PROXY 127.0.0.1:${httpPort}`, names: Object.fromEntries(names), suffixes: Object.fromEntries(suffixes), ranges }
  return `// Written by the Sallyport agent for the profile of this machine.\n${Object.entries(constants).map(([name, value]) => `var ${name} = ${JSON.stringify(value)}\n`).join('')}${program}`
}

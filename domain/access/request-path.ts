// The path of a request as services are told apart by it. Gateway and upstream must read one path alike, or nothing is decided.

/** How often a path may be percent-encoded over: further layers are nobody's honest request. */
const MAX_LAYERS = 4
const suspicious = /[%;\\A-Z]|\/\/|\/\.\.?(\/|$)/
const dotSegment = /(^|\/)\.\.?(\/|$)/

/** A prefix as declared, without its final slash. */
export const prefixOf = (declared: string): string => declared.replace(/\/$/, '')

/** The path of a request target in origin-form. */
export function pathOf(target: string): string {
  const query = target.indexOf('?')
  return query === -1 ? target : target.slice(0, query)
}

const decodeOnce = (path: string): string => path.replaceAll(/%([0-9a-f]{2})/gi, (_whole, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)))

/** Each way in which upstreams are known to read a path: decoded or not, with or without parameters, doubled slashes and capitals. */
function readings(path: string): string[] | null {
  const layers = [path]
  for (let layer = path; ;) {
    const next = decodeOnce(layer)
    if (next === layer) break
    if (layers.length > MAX_LAYERS) return null
    layers.push(layer = next)
  }
  const read = new Set<string>()
  for (const layer of layers) {
    for (const slashed of [layer, layer.replaceAll('\\', '/')]) {
      for (const bare of [slashed, slashed.replaceAll(/;[^/]*/g, '')]) {
        for (const single of [bare, bare.replaceAll(/\/{2,}/g, '/')]) {
          if (dotSegment.test(single) || /[\0-\x1f\x7f]/.test(single)) return null
          read.add(single).add(single.toLowerCase())
        }
      }
    }
  }
  return [...read]
}

/**
 * What `find` answers for a path, when every reading of the path leads to the same answer.
 * @returns undefined: readings differ, or the path climbs; upstream and gateway could mean different things
 */
export function findByPath<T>(path: string, find: (path: string) => T): T | undefined {
  const found = find(path)
  if (!suspicious.test(path)) return found
  const read = readings(path)
  return read !== null && read.every((each) => find(each) === found) ? found : undefined
}

// Facts of many endpoints as one query gives them, a line an endpoint. A body that several endpoints have is unpacked once: of most sections a fleet has few different ones.
import { Buffer } from 'node:buffer'
import { provenanceOf, type Fact, type Facts, type SectionName, type Sections } from '../../protocol/facts.ts'
import { unpack, withMatches } from './facts.ts'
import { MATCHES, readMatches, SOFTWARE } from './inventory.ts'

/** null: something is damaged, so that more must be read than this. */
export type ReadPage = (line: string) => Facts | null

/** Reads lines of `section,at,body;…`, bodies in hexadecimal digits. What it has unpacked it keeps for as long as it is kept itself. */
export function pageReader(): ReadPage {
  const unpacked = new Map<string, Map<string, Sections[SectionName] | null>>()
  const valueOf = (section: string, digits: string): Sections[SectionName] | null => {
    const known = unpacked.get(section) ?? new Map<string, Sections[SectionName] | null>()
    if (known.size === 0) unpacked.set(section, known)
    const found = known.get(digits)
    if (found !== undefined) return found
    const value = unpack({ body: Buffer.from(digits, 'hex') })
    known.set(digits, value)
    return value
  }
  return (line) => {
    const facts: { [S in SectionName]?: Fact } = {}
    let matches: ReturnType<typeof readMatches> = null
    for (let from = 0, end = 0; from < line.length; from = end + 1) {
      end = line.indexOf(';', from)
      if (end < 0) end = line.length
      const [first, second] = [line.indexOf(',', from), line.lastIndexOf(',', end)]
      const [section, at, digits] = [line.slice(from, first), Number(line.slice(first + 1, second)), line.slice(second + 1, end)]
      if (section === SOFTWARE) continue
      if (section === MATCHES) {
        matches = readMatches([{ section, hash: '', at, body: Buffer.from(digits, 'hex') }])
        continue
      }
      const value = valueOf(section, digits)
      if (value === null) return null
      facts[section as SectionName] = { value, at, provenance: provenanceOf(section as SectionName) }
    }
    if (matches === null) return facts as Facts
    const read = withMatches({ facts: facts as Facts, damaged: [] }, matches)
    return read.damaged.length > 0 ? null : read.facts
  }
}

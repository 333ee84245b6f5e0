// Files of definitions: every mistake with its place, and nothing taken of a file that has one.
import { describe, expect, it } from 'vitest'
import { z } from 'zod'
import { checkBy, readDefinitions } from '../../cli/definitions.ts'
import { differences } from '../../cli/differences.ts'
import { Fault } from '../../protocol/faults.ts'

const check = checkBy(z.strictObject({ name: z.string(), ports: z.array(z.number()).default([]) }), ({ ports }) => (ports.includes(0) ? [{ pointer: `/ports/${ports.indexOf(0)}`, detail: 'zero is no port' }] : []))
const read = (text: string) => readDefinitions(text, 'f.yaml', check).map(({ body }) => body)
function mistakes(text: string): string[] {
  try {
    read(text)
  } catch (cause) {
    if (cause instanceof Fault) return (cause.extras.errors ?? []).map(({ pointer, detail }) => `${pointer}: ${detail}`)
    throw cause
  }
  return []
}

describe('a file of definitions', () => {
  it('holds one, a list, several documents, or JSON', () => {
    const [a, b] = [{ name: 'a', ports: [1] }, { name: 'b', ports: [] }]
    expect(read('name: a\nports: [1]')).toEqual([a])
    expect(read('- {name: a, ports: [1]}\n- name: b')).toEqual([a, b])
    expect(read('# head\nname: a\nports: [1]\n---\n---\n- name: b\n')).toEqual([a, b])
    expect(read(JSON.stringify([a, b], null, 2))).toEqual([a, b])
  })
  it('says where each mistake stands, all of them at once', () => {
    expect(mistakes('- name: a\n  ports: [1, x]\n  colour: red\n- name: b\n  ports:\n    - 0\n- ports: []\n')).toEqual([
      'f.yaml:2:14 /ports/1: Invalid input: expected number, received string', 'f.yaml:3:11 /colour: is not known here',
      'f.yaml:6:7 /ports/0: zero is no port', 'f.yaml:7:3 /name: Invalid input: expected string, received undefined',
    ])
    expect(mistakes('name: a\n---\nname: a\n')).toEqual(['f.yaml:3:7 /name: another one above is named "a" too'])
    expect(mistakes('name: a\nname: b\n')).toEqual([expect.stringMatching(/^f\.yaml:2:1: Map keys must be unique/)])
    expect(mistakes('name: [a\n')[0]).toMatch(/^f\.yaml:\d+:\d+: /)
    expect(mistakes('just text')).toEqual(['f.yaml:1:1: must be a mapping, or a list of mappings'])
    expect(mistakes('')).toEqual(['f.yaml: defines nothing'])
  })
  it('whose aliases grow without bound is refused', () => {
    const bomb = `a: &a [x,x,x,x,x,x,x,x,x]\n${['b', 'c', 'd', 'e', 'f'].map((name, at) => `${name}: &${name} [${Array.from({ length: 9 }, () => `*${'abcdef'.charAt(at)}`).join(',')}]`).join('\n')}`
    expect(mistakes(bomb)).toEqual([expect.stringContaining('Excessive alias count')])
  })
})

describe('differences', () => {
  it('are told by place; the order of members is none', () => {
    expect(differences({ a: 1, b: [1, 2], c: { d: null } }, { c: { d: null }, b: [1, 2], a: 1 })).toEqual([])
    expect(differences({ a: 1, b: [1, 2], 'c/d': true }, { a: '1', b: [1], e: {} })).toEqual([
      { pointer: '/a', from: 1, to: '1' }, { pointer: '/b/1', from: 2 }, { pointer: '/c~1d', from: true }, { pointer: '/e', to: {} },
    ])
    expect(differences({ a: [] }, { a: {} })).toEqual([{ pointer: '/a', from: [], to: {} }])
  })
})

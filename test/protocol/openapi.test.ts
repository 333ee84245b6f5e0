// The OpenAPI document is one: by a validator that is not ours, and where that looks no further, by what a generator of clients needs.
import { Validator } from '@seriousme/openapi-schema-validator'
import { Ajv2020 } from 'ajv/dist/2020.js'
import { describe, expect, it } from 'vitest'
import { operations } from '../../protocol/operations/all.ts'
import { openApiDocument } from '../../workers/http/openapi.ts'

type Json = Record<string, unknown>
const document = JSON.parse(JSON.stringify(openApiDocument(operations))) as Json & { paths: Record<string, Record<string, Documented>>; components: Record<string, Json> }
interface Documented { operationId: string; parameters?: { name: string; in: string; required?: boolean; schema?: unknown }[]; security?: Json[]; responses: Record<string, { description?: string; content?: Record<string, { schema?: unknown }> }>; requestBody?: { content: Record<string, { schema?: unknown }> } }
const documented = Object.entries(document.paths).flatMap(([path, methods]) => Object.entries(methods).map(([method, operation]) => ({ path, method, operation })))

/** Every object in a value, and where it stands. */
function* objects(value: unknown, at = '#'): Generator<{ at: string; value: Json }> {
  if (Array.isArray(value)) for (const [index, each] of value.entries()) yield* objects(each, `${at}/${index}`)
  else if (typeof value === 'object' && value !== null) {
    yield { at, value: value as Json }
    for (const [key, each] of Object.entries(value)) yield* objects(each, `${at}/${key.replaceAll('~', '~0').replaceAll('/', '~1')}`)
  }
}

/** Every schema that stands in a place of its own. */
const schemas = (given: Json) => [...objects(given)].flatMap(({ at, value }) => (typeof value.schema === 'object' && value.schema !== null ? [{ at: `${at}/schema`, schema: value.schema }] : []))

describe('the OpenAPI document', () => {
  it('is valid OpenAPI 3.1', async () => {
    const validator = new Validator()
    const result = await validator.validate(structuredClone(document))
    expect(result.errors).toBeUndefined()
    expect([result.valid, validator.version]).toEqual([true, '3.1'])
  })
  it('would not be, were an answer or a parameter wrong', async () => {
    const spoiled: ((given: typeof document) => void)[] = [
      (given) => { Object.assign(Object.values(given.paths['/api/v1/health']?.get?.responses ?? {})[0] ?? {}, { description: 1 }) },
      (given) => { for (const { value } of objects(given)) if (value.in === 'path') value.in = 'somewhere' },
    ]
    for (const spoil of spoiled) {
      const given = structuredClone(document)
      spoil(given)
      expect((await new Validator().validate(given)).valid).toBe(false)
    }
  })
  it('holds schemas that are JSON Schema 2020-12: the validator of the document does not look into them', () => {
    const ajv = new Ajv2020({ strict: false })
    const faults = schemas(document).flatMap(({ at, schema }) => (ajv.validateSchema(schema) === true ? [] : [[at, ajv.errorsText(ajv.errors)]]))
    expect(faults).toEqual([])
    expect([schemas(document).length > 100, ajv.validateSchema({ type: 'object', properties: { n: { type: 'whole number' } } })]).toEqual([true, false])
  })
  it('names every operation once', () => {
    const ids = documented.map(({ operation }) => operation.operationId)
    expect(ids.sort()).toEqual(operations.map(({ id }) => id).sort())
    expect(new Set(ids).size).toBe(ids.length)
  })
  it('declares exactly the parameters that a path has, each required', () => {
    for (const { path, method, operation } of documented) {
      const declared = (operation.parameters ?? []).filter((each) => each.in === 'path')
      expect([method, path, declared.map(({ name }) => name).sort()]).toEqual([method, path, [...path.matchAll(/\{(\w+)\}/g)].map((match) => match[1]).sort()])
      expect(declared.every(({ required, schema }) => required === true && schema !== undefined)).toBe(true)
    }
  })
  it('says who may call, by a scheme that it declares', () => {
    const schemes = Object.keys(document.components.securitySchemes ?? {})
    for (const { operation } of documented) for (const each of operation.security ?? []) expect(schemes).toEqual(expect.arrayContaining(Object.keys(each)))
    expect(documented.filter(({ operation }) => operation.security === undefined)).toEqual([])
  })
  it('says of every body and every answer what it is', () => {
    for (const { operation } of documented) {
      for (const [media, { schema }] of [operation.requestBody?.content ?? {}, ...Object.values(operation.responses).map(({ content }) => content ?? {})].flatMap(Object.entries) as [string, { schema?: Json }][]) {
        expect([operation.operationId, media, typeof schema === 'object' && Object.keys(schema).length > 0]).toEqual([operation.operationId, media, true])
      }
    }
  })
  it('refers to nothing that it does not hold', () => {
    const held = new Set([...objects(document)].map(({ at }) => at))
    const missing = [...objects(document)].map(({ value }) => value.$ref).filter((ref): ref is string => typeof ref === 'string').filter((ref) => !held.has(ref))
    expect(missing).toEqual([])
  })
  it('holds no pattern that a reader can not compile', () => {
    expect(() => [...objects(document)].map(({ value }) => (typeof value.pattern === 'string' ? new RegExp(value.pattern, 'u') : null))).not.toThrow()
  })
})

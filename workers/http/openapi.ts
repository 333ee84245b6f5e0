// OpenAPI 3.1 of every operation, from the same schemas that parse requests.
import { OpenAPIHono, z } from '@hono/zod-openapi'
import { problem } from '../../protocol/faults.ts'
import type { Operation } from '../../protocol/operation.ts'

let made: object | null = null

/** The document; made once per isolate. */
export function openApiDocument(operations: readonly Operation[]): object {
  made ??= generate(operations)
  return made
}

function generate(operations: readonly Operation[]): object {
  const documented = new OpenAPIHono()
  const registry = documented.openAPIRegistry
  registry.registerComponent('securitySchemes', 'administrator', { type: 'http', scheme: 'bearer' })
  registry.registerComponent('securitySchemes', 'signature', { type: 'apiKey', in: 'header', name: 'signature', description: 'RFC 9421 request signature with the key of a certificate of this EMS.' })
  const refusal = { description: 'Refused; see `code`.', content: { 'application/problem+json': { schema: problem } } }
  for (const operation of operations) {
    const content = operation.surface === 'pem' ? { 'application/x-x509-ca-cert': { schema: z.string() } }
      : operation.surface === 'crl' ? { 'application/pkix-crl': { schema: z.string() }, 'application/x-pem-file': { schema: z.string() } } : { 'application/json': { schema: operation.reply } }
    registry.registerPath({
      operationId: operation.id, method: operation.method.toLowerCase() as 'get', path: operation.path, summary: operation.summary, tags: [operation.caller],
      security: operation.caller === 'administrator' ? [{ administrator: [] }] : operation.caller === 'nobody' ? [] : [{ signature: [] }],
      request: {
        ...(operation.params === undefined ? {} : { params: operation.params as z.ZodObject }), ...(operation.query === undefined ? {} : { query: operation.query as z.ZodObject }),
        ...(operation.body === undefined ? {} : { body: { required: true, content: { 'application/json': { schema: operation.body } } } }),
      },
      responses: operation.surface === 'socket' ? { 101: { description: 'Switching to a websocket.' }, default: refusal } : { 200: { description: 'Done.', content }, default: refusal },
    })
  }
  return documented.getOpenAPI31Document({ openapi: '3.1.0', info: { title: 'Sallyport', version: '0.1.0', license: { name: 'Apache-2.0' } } })
}

import { defineConfig } from 'drizzle-kit'

export default defineConfig({
  dialect: 'sqlite',
  schema: ['./schema/authority.ts', './schema/invitation.ts', './schema/endpoint.ts', './schema/change-log.ts', './schema/rules.ts', './schema/gateway.ts', './schema/package.ts', './schema/advisory.ts', './schema/identity.ts'],
  out: './schema/migrations',
})

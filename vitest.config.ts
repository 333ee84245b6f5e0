// Two rings: `node` runs in Node 24 (pure rules, real sockets, whole flows), `workers` runs in workerd with real D1 and objects.
import { cloudflareTest, readD1Migrations } from '@cloudflare/vitest-plugin'
import { defineConfig } from 'vitest/config'

export default defineConfig({
  test: {
    // More than cores: much of it waits for what a fault, a browser or a kernel delays.
    maxWorkers: 3,
    teardownTimeout: 60_000,
    projects: [
      {
        test: {
          name: 'node', include: ['test/**/*.test.ts'], exclude: ['test/workers/**'],
          testTimeout: 120_000, hookTimeout: 300_000, pool: 'forks', maxConcurrency: 3,
        },
      },
      {
        plugins: [cloudflareTest(async () => ({
          wrangler: { configPath: './wrangler.toml' },
          miniflare: {
            bindings: {
              ADMIN_TOKEN: 'test-administrator-token-0123456789abcdef',
              WRAPPING_KEYS: `k1:${Buffer.alloc(32, 7).toString('base64')}`,
              PUBLIC_ORIGIN: 'https://ems.test',
              TEST_MIGRATIONS: await readD1Migrations('./schema/migrations'),
            },
          },
        }))],
        test: { name: 'workers', include: ['test/workers/**/*.test.ts'], setupFiles: ['./test/workers/setup.ts'], testTimeout: 60_000, hookTimeout: 60_000 },
      },
    ],
  },
})

import { execFile } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { promisify } from 'node:util'
import { expect, it } from 'vitest'
import { nodeFlags } from '../../gateway/node-flags.ts'

it('the script that starts a gateway passes the flags that its workers and benchmarks have, and this Node knows them', async () => {
  const { scripts } = JSON.parse(await readFile(new URL('../../package.json', import.meta.url), 'utf8')) as { scripts: Record<string, string> }
  expect(scripts.gateway).toBe(`exec node ${nodeFlags.join(' ')} gateway/main.ts`)
  const { stdout } = await promisify(execFile)(process.execPath, [...nodeFlags, '--print', '1 + 1'])
  expect(stdout).toBe('2\n')
})

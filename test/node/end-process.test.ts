import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { text } from 'node:stream/consumers'
import { describe, expect, it } from 'vitest'

const program = new URL('../../node/end-process.ts', import.meta.url).href

describe('the end of a process', () => {
  it('comes with its code once all that was written has left, whatever would keep it up', async () => {
    const child = spawn(process.execPath, ['--input-type=module', '-e', `
      import { endProcess } from '${program}'
      setInterval(() => {}, 1000)
      process.stdout.write('x'.repeat(4_000_000))
      process.stderr.write('said')
      await endProcess(3)
    `], { stdio: ['ignore', 'pipe', 'pipe'] })
    const [out, err, [code]] = await Promise.all([text(child.stdout), text(child.stderr), once(child, 'exit')])
    expect([out.length, err, code]).toEqual([4_000_000, 'said', 3])
  })
})

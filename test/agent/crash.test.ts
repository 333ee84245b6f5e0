// kill -9 in the middle of a renewal, between any two of its writes: the next start goes on with what there is, and nothing is left over.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdir } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { afterEach, describe, expect, it } from 'vitest'
import { readIdentity } from '../../agent/certificates/identity-store.ts'
import { closeAll, enrolledScene, happened, onEnd } from './agent-under-test.ts'
import { refusal, UID } from './ems-double.ts'

afterEach(closeAll)
const program = fileURLToPath(new URL('../../agent/main.ts', import.meta.url))

describe('an agent that is killed', () => {
  it('while it renews, at every stage, comes back as who it was', async () => {
    const { ems, directory } = await enrolledScene()
    let expired = true
    const renewal = { begun: Promise.withResolvers<void>() }
    ems.instead.set('report', async ({ usual }) => (expired ? refusal('certificate_expired') : await usual()))
    ems.instead.set('renew', async ({ usual }) => {
      const answer = await usual()
      renewal.begun.resolve()
      return answer
    })
    // ms after the EMS has issued: before the reply is read, while the list of CAs and the identity are written, and after.
    for (const delayMs of [0, 4, 9, 30]) {
      renewal.begun = Promise.withResolvers()
      const running = spawn(process.execPath, [program, 'run', '--state', directory], { stdio: 'ignore' })
      onEnd(() => Promise.resolve(running.kill('SIGKILL')))
      await renewal.begun.promise
      await new Promise((resolve) => { setTimeout(resolve, delayMs) })
      running.kill('SIGKILL')
      await once(running, 'exit')
      const identity = await readIdentity(directory)
      expect(identity?.uid, `killed after ${delayMs} ms`).toBe(UID)
      expect([...ems.certificates.values()], `killed after ${delayMs} ms`).toContain(identity?.certificatePem)
    }
    expired = false
    const running = spawn(process.execPath, [program, 'run', '--state', directory], { stdio: 'ignore' })
    onEnd(() => Promise.resolve(running.kill('SIGKILL')))
    await happened('a report', () => ems.held.has('os'))
    running.kill('SIGTERM')
    expect(await once(running, 'exit')).toEqual([0, null])
    expect((await readdir(directory)).filter((name) => name.endsWith('.tmp'))).toEqual([])
    // One certificate for the enrolment, and one for each renewal at most: a key that asked is asked with again until it is adopted.
    expect(ems.certificates.size).toBeLessThanOrEqual(6)
  }, 300_000)
})

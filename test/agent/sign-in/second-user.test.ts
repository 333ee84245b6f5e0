// Another user of the machine, who reads where the person's browser was sent: the process list shows it.
import { spawn } from 'node:child_process'
import { text } from 'node:stream/consumers'
import { afterEach, describe, expect, it } from 'vitest'
import { closeAll, onEnd } from '../agent-under-test.ts'
import { createVisitor } from './identity-provider.ts'
import { begun, world } from './sign-in-scene.ts'

afterEach(closeAll)

describe('the answer of a provider', { timeout: 60_000 }, () => {
  it('is none from another user of the machine, who signed in at the address as somebody of theirs', async ({ skip }) => {
    if (process.platform !== 'linux' || process.getuid?.() !== 0) return skip('needs root to act as another user, and to be told who that is')
    const { scene, vouching } = await world()
    const { address, ended } = await begun(scene)
    const { href } = await createVisitor().answerFor(address)
    const stranger = spawn(process.execPath, ['-e', `fetch('${href}').then(({ status }) => console.log(status))`], { stdio: ['ignore', 'pipe', 'inherit'], uid: 65_533, gid: 65_533, env: {} })
    onEnd(() => Promise.resolve(void stranger.kill('SIGKILL')))
    expect([await text(stranger.stdout), scene.ems.count('sign-in')]).toEqual(['403\n', 0])
    expect(await (await fetch(href)).text()).toContain('You are signed in')
    expect([(await ended).code, vouching.signedIn?.user.subject]).toEqual([0, 'ada'])
  })
})

// What is kept for plain ssh: asked of the agent again before it ends, and before what stands beside it grows old.
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { keepCertificate, keptFiles } from '../../../agent/ssh/kept.ts'
import { hasOpenSsh } from '../../gateway/ssh/sshd-under-test.ts'

const made: string[] = []
afterEach(async () => {
  for (const directory of made.splice(0)) await rm(directory, { recursive: true, force: true })
})
const key = `ssh-ed25519 ${'A'.repeat(68)}`

describe.skipIf(!hasOpenSsh)('a certificate that is kept (needs ssh-keygen)', () => {
  it('serves until a third of its life is left, but for five minutes at most, since the keys of the host stand beside it', async () => {
    const directory = join(made[made.push(await mkdtemp(join(tmpdir(), 'kept-'))) - 1] ?? '', 'sallyport')
    const target = { host: 'build.test', port: 22 }
    let [asked, leftMs, hostKeys] = [0, 300_000, [key]]
    const ask = (question: { readonly ask: string }) => {
      if (question.ask === 'protects') return Promise.resolve({ protects: true })
      asked++
      return Promise.resolve({ outcome: 'issued', leftMs, reply: { certificate: `ssh-ed25519-cert-v01@openssh.com ${asked}`, principals: ['ada'], validUntil: 1, hostKeys } })
    }
    const at = async (now: number) => (await keepCertificate(ask, target, { directory, now })).outcome
    expect([await at(0), await at(199_000), asked, await at(201_000), asked]).toEqual(['issued', 'fresh', 1, 'issued', 2])
    leftMs = 36_000_000
    expect([await at(402_000), await at(700_000), asked]).toEqual(['issued', 'fresh', 3])
    hostKeys = []
    expect([await at(702_000), asked]).toEqual(['issued', 4])
    await expect(readFile(keptFiles(directory, target).knownHosts)).rejects.toThrow('ENOENT')
    // A clock that went back says nothing of how old it is.
    expect([await at(701_000), asked]).toEqual(['issued', 5])
  })
})

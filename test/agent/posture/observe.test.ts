// What a running agent notices by itself: software that is installed is reported when it is, not an hour later.
import { appendFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, expect, it } from 'vitest'
import { closeAll, enrolledScene, happened, reported } from '../agent-under-test.ts'
import { machine } from './machine.ts'

afterEach(closeAll)

it('reports software when a package was installed, once the installation is over', async () => {
  const scene = await enrolledScene()
  const root = await machine({ 'var/lib/dpkg/status': 'one', 'etc/os-release': 'NAME=Debian\n' })
  let rows = 'ii \tbash\t5.2\n'
  let listed = 0
  await scene.start({ root, command: (file) => {
    if (file !== 'dpkg-query') return Promise.resolve(null)
    listed++
    return Promise.resolve(rows)
  } })
  await reported(scene)
  const names = () => (scene.ems.held.get('software')?.value as { packages: { name: string }[] } | undefined)?.packages.map(({ name }) => name)
  await happened('the first list', () => names()?.join() === 'bash')
  const before = listed
  rows += 'ii \tcurl\t7.88\n'
  for (let write = 0; write < 20; write++) await appendFile(join(root, 'var/lib/dpkg/status'), 'x')
  await happened('the new list', () => names()?.join() === 'bash,curl')
  expect(listed - before).toBeLessThanOrEqual(2)
})

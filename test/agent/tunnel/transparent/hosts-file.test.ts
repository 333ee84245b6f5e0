// The agent's block in a hosts file: others' lines stay to the letter, the file keeps its owner and mode, and the block comes back.
import { chmod, chown, readFile, readdir, rename, stat, symlink, lstat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { withBlock, withoutBlock } from '../../../../agent/tunnel/transparent/hosts-block.ts'
import { keepHosts, removeBlock } from '../../../../agent/tunnel/transparent/hosts-file.ts'
import { addressesOf, isOfNames } from '../../../../agent/tunnel/transparent/loopback-addresses.ts'
import { joined, wantedOf } from '../../../../agent/tunnel/transparent/wanted.ts'
import { systemTimers } from '../../../../node/timers.ts'
import { closeAll, happened, onEnd, temporaryDirectory } from '../../agent-under-test.ts'

afterEach(closeAll)
const addresses = new Map([['wiki.corp.test', '127.64.1.2'], ['git.corp.test', '127.100.0.9']])
const THEIRS = '127.0.0.1 localhost\n# mine\n10.0.0.5\tprinter  # keep\n127.64.1.2 of-somebody-else'

describe('the block', () => {
  it.each([THEIRS, `${THEIRS}\n`, '', '\n', 'a\r\nb\r\n'])('comes and goes without a trace in %j', (text) => {
    const once = withBlock(text, addresses)
    expect(once).toContain('127.64.1.2 wiki.corp.test\n::ffff:127.64.1.2 wiki.corp.test\n127.100.0.9 git.corp.test\n')
    expect(withBlock(once, addresses)).toBe(once)
    expect(withoutBlock(once)).toBe(text)
    expect(withBlock(once, new Map())).toBe(text)
  })
  it('that lost its end takes its own lines with it and no other', () => {
    const torn = withBlock(THEIRS, addresses).replace('# <<< sallyport agent\n', '')
    expect(withoutBlock(torn)).toBe(THEIRS)
    expect(withoutBlock(`${withBlock('x', addresses)}\n${withBlock('y', addresses)}`)).toBe('x\ny')
  })
})

describe('the addresses', () => {
  it('are the same for a name whatever the others are, in any order, and lie in a range of their own', () => {
    const names = Array.from({ length: 1_000 }, (_, n) => `host-${n}.corp.test`)
    const all = addressesOf(names)
    expect(new Set(all.values()).size).toBe(1_000)
    expect(addressesOf(names.toReversed())).toEqual(all)
    for (const address of all.values()) expect(isOfNames(address)).toBe(true)
    expect(addressesOf(['host-7.corp.test']).get('host-7.corp.test')).toBe(all.get('host-7.corp.test'))
    expect(['127.0.0.1', '127.0.0.53', '127.63.255.255', '127.128.0.0', '10.64.0.1', '::1', 'x'].filter(isOfNames)).toEqual([])
  })
})

describe('what is wanted of a profile', () => {
  const gateway = 'SPGW0123456789AB'
  it('joins ports, keeps wildcards and the agent\'s own names out', () => {
    const { names, ranges, left } = wantedOf({ destinations: [
      { match: 'a.test', ports: [443, { from: 80, to: 90 }, 91, 85], gateway }, { match: 'a.test', ports: [444], gateway }, { match: '*.b.test', ports: [1], gateway }, { match: 'gate.test', ports: [1], gateway }, { match: 'localhost', ports: [1], gateway },
      { match: '10.0.0.0/8', ports: [22], gateway }, { match: '10.1.2.3', ports: [23], gateway }, { match: 'fd00::/8', ports: [24], gateway },
    ] }, new Set(['gate.test']))
    expect(Object.fromEntries(names)).toEqual({ 'a.test': [{ from: 80, to: 91 }, { from: 443, to: 444 }] })
    expect([...ranges.keys()]).toEqual(['10.0.0.0/8', '10.1.2.3/32', 'fd00::/8'])
    expect(left.map((each) => each.split(' ')[0])).toEqual(['*.b.test', 'gate.test', 'localhost'])
    expect(joined([])).toEqual([])
  })
})

describe('the file', () => {
  async function hosts() {
    const directory = await temporaryDirectory()
    const path = join(directory, 'hosts')
    await writeFile(path, THEIRS)
    await chmod(path, 0o640)
    if (process.getuid?.() === 0) await chown(path, 1234, 4321)
    const events: string[] = []
    const record = ({ event }: { event: string }) => { events.push(event) }
    const kept = keepHosts({ path, timers: systemTimers, log: { info: record, warn: record, error: record }, onDefect: (cause) => { throw cause } })
    onEnd(kept.close)
    return { directory, path, kept, events, text: () => readFile(path, 'utf8') }
  }
  it('keeps its owner and mode, is replaced whole, and is as it was in the end', async () => {
    const { directory, path, kept, text } = await hosts()
    const before = await stat(path)
    expect(await kept.put(addresses)).toBeNull()
    expect(await text()).toBe(withBlock(THEIRS, addresses))
    const after = await stat(path)
    expect([after.mode, after.uid, after.gid]).toEqual([before.mode, before.uid, before.gid])
    expect(after.ino).not.toBe(before.ino)
    expect(await readdir(directory)).toEqual(['hosts'])
    await kept.close()
    await removeBlock(path)
    expect(await text()).toBe(THEIRS)
  })
  it('has its block again after another program wrote it, in place or anew, and keeps what that one wrote', async () => {
    const { path, kept, text, events } = await hosts()
    await kept.put(addresses)
    await writeFile(path, 'in place\n')
    await happened('the repair', async () => await text() === withBlock('in place\n', addresses))
    await writeFile(`${path}.new`, 'anew\n')
    await rename(`${path}.new`, path)
    await happened('the repair', async () => await text() === withBlock('anew\n', addresses))
    expect(events.filter((event) => event === 'hosts_repaired')).toHaveLength(2)
    await kept.close()
    await writeFile(path, 'after the end\n')
    expect(await text()).toBe('after the end\n')
  })
  it('that is a link stays one', async () => {
    const { directory, path, kept } = await hosts()
    await rename(path, join(directory, 'generated'))
    await symlink('generated', path)
    await kept.put(addresses)
    expect((await lstat(path)).isSymbolicLink()).toBe(true)
    expect(await readFile(join(directory, 'generated'), 'utf8')).toContain('wiki.corp.test')
  })
  it('that is not there or not for us is said', async () => {
    const directory = await temporaryDirectory()
    const log = { info: () => {}, warn: () => {}, error: () => {} }
    const kept = keepHosts({ path: join(directory, 'none'), timers: systemTimers, log, onDefect: (cause) => { throw cause } })
    onEnd(kept.close)
    expect(await kept.put(addresses)).toMatch(/none: ENOENT/)
  })
})

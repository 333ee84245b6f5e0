// Certificates in real NSS databases: put back, renewed, taken away, for the user whose databases they are, and nothing else of theirs touched.
import { chown, mkdir, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { keepBrowsers, type KeptBrowsers } from '../../../agent/certificates/browsers/keep-browsers.ts'
import { findOwner, runAs } from '../../../agent/certificates/browsers/linux/owner.ts'
import { linuxStores } from '../../../agent/certificates/browsers/linux/stores.ts'
import { letGoOfBrowsers } from '../../../agent/certificates/browsers/remove.ts'
import { storesHere } from '../../../agent/certificates/browsers/stores-here.ts'
import { noteLetGo, readIdentity } from '../../../agent/certificates/identity-store.ts'
import { startAgent } from '../../../agent/start.ts'
import { systemTimers } from '../../../node/timers.ts'
import { createTroubles, type Troubles } from '../../../agent/troubles.ts'
import { trustAuthority, type TrustedAuthority } from '../../../identity/certificate.ts'
import { createControlClient, type ControlClient } from '../../../node/control-client.ts'
import { introduceEms } from '../../../node/introduce.ts'
import { until } from '../../../start/steps.ts'
import { addRoot, hasNssTools, isRoot, listed, log, run, startScene, type Scene } from './browser-scene.ts'

const DAY = 86_400_000
const NOBODY = 65_534
const SERVICES = ['wiki.corp.test', '*.apps.test']

describe.skipIf(!hasNssTools)('certificates in browsers\' databases (needs Debian\'s libnss3-tools)', () => {
  let scene: Scene
  let authorities: TrustedAuthority[]
  const closing: (() => Promise<unknown>)[] = []
  beforeAll(async () => {
    scene = await startScene([])
  }, 600_000)
  afterEach(async () => {
    for (const close of closing.splice(0).reverse()) await close()
  })
  afterAll(() => scene?.close())

  interface Laptop {
    readonly home: string
    readonly state: string
    readonly root: string
    readonly uid: string
    readonly database: string
    readonly troubles: Troubles
    readonly placed: string[]
    services: readonly string[]
    start(more?: { now?: () => number; installed?: boolean }): KeptBrowsers
    changed(): void
    holds(...names: string[]): Promise<true>
    browsersFile(): Promise<{ stores: { directory: string; current: { keyId: string }; next: unknown }[] }>
  }
  let laptops = 0
  async function newLaptop(ownerUid = process.getuid?.() ?? 0): Promise<Laptop> {
    const place = join(scene.directory, `laptop-${laptops++}`)
    const [state, root] = [join(place, 'state'), join(place, 'root')]
    await mkdir(root, { recursive: true })
    const home = await scene.newHome(ownerUid)
    const uid = await scene.enrol(state, ownerUid)
    const identity = await readIdentity(state)
    if (identity === null) throw new Error('not enrolled')
    const client: ControlClient = createControlClient({ ems: identity.ems, identity: () => identity, tlsCa: identity.tlsCa, now: Date.now, log })
    closing.push(() => client.close())
    authorities = await Promise.all((await introduceEms(client, { ems: identity.ems, pin: identity.pin })).certificates.map((pem) => trustAuthority(pem)))
    const troubles = createTroubles(log, Date.now)
    const listeners = new Set<() => void>()
    const database = join(home, '.pki/nssdb')
    const laptop: Laptop = {
      home, state, root, uid, database, troubles, placed: [], services: SERVICES,
      start({ now = Date.now, installed = true } = {}) {
        const kept = keepBrowsers({
          stateDirectory: state, uid, ownerUid, services: () => laptop.services, client: () => client, authorities: () => authorities, now, timers: systemTimers, troubles, random: () => 0,
          onSettings(listener) {
            listeners.add(listener)
            return () => listeners.delete(listener)
          },
          async stores(whose) {
            if (installed) return await storesHere({ ownerUid: whose, root, home })
            const owner = await findOwner(root, whose, home)
            if (owner === null) throw new Error('no such account')
            const real = runAs(owner)
            return linuxStores(owner, root, (file, args) => real(file === 'certutil' || file === 'pk12util' ? `/nonexistent/${file}` : file, args))
          },
          onPlaced: (store) => { laptop.placed.push(store) }, onFault: () => Promise.resolve(), onDefect: (cause) => { throw cause },
        })
        closing.push(() => kept.close())
        return kept
      },
      changed: () => { for (const listener of listeners) listener() },
      holds: (...names) => until(`${names.join(' and ')} in ${database}`, async () => {
        const found = await listed(database)
        if (JSON.stringify(found) === JSON.stringify(names)) return true as const
        throw new Error(`it holds ${found.join(' and ')}; ${troubles.all().map(({ sentence }) => sentence).join(' ')}`)
      }, 60_000, 50),
      browsersFile: async () => JSON.parse(await readFile(join(state, 'browsers.json'), 'utf8')) as never,
    }
    return laptop
  }
  const troubled = (laptop: Laptop, wanted: RegExp | null) => until(`trouble ${String(wanted)}`, () => Promise.resolve(
    (wanted === null ? laptop.troubles.all().length === 0 : wanted.test(laptop.troubles.all()[0]?.sentence ?? '')) || null), 240_000)
  const ours = (laptop: Laptop) => `Sallyport ${laptop.uid} u,u,u`

  it('are put back when they are taken away, renamed, or the whole database goes; what is not ours stays', async () => {
    const laptop = await newLaptop()
    await addRoot(scene, laptop.database)
    laptop.start()
    await laptop.holds('Administrator root C,,', ours(laptop))
    const first = (await laptop.browsersFile()).stores[0]?.current.keyId
    await run('certutil', ['-F', '-d', `sql:${laptop.database}`, '-k', first ?? '', '-f', '/dev/null'])
    await laptop.holds('Administrator root C,,', ours(laptop))
    await run('certutil', ['-D', '-d', `sql:${laptop.database}`, '-n', `Sallyport ${laptop.uid}`])
    await laptop.holds('Administrator root C,,', ours(laptop))
    await rm(laptop.database, { recursive: true })
    await laptop.holds(ours(laptop))
    // The same key each time: an endpoint has no more certificates than browsers.
    expect((await laptop.browsersFile()).stores[0]?.current.keyId).toBe(first)
    await until('no file with the key', async () => !(await readdir(tmpdir())).some((name) => name.startsWith('sallyport-browser-')) || null)
    await run('certutil', ['--rename', '-d', `sql:${laptop.database}`, '-n', `Sallyport ${laptop.uid}`, '--new-n', 'Mine now'])
    await letGoOfBrowsers({ stateDirectory: laptop.state, root: laptop.root, home: laptop.home, log })
    expect(await listed(laptop.database)).toEqual([])
  }, 600_000)

  it('are renewed at two thirds of their life: the new one is there before the old one goes', async () => {
    const laptop = await newLaptop()
    await addRoot(scene, laptop.database)
    const kept = laptop.start()
    await laptop.holds('Administrator root C,,', ours(laptop))
    const old = (await laptop.browsersFile()).stores[0]?.current.keyId
    await kept.close()
    laptop.start({ now: () => Date.now() + 21 * DAY })
    await until('another key', async () => {
      const [store] = (await laptop.browsersFile()).stores
      return (store?.next === null && store.current.keyId !== old) || null
    }, 60_000)
    await laptop.holds('Administrator root C,,', ours(laptop))
    const keys = (await run('certutil', ['-K', '-d', `sql:${laptop.database}`, '-f', '/dev/null'])).stdout
    expect(keys).not.toContain(old)
    expect(keys).toContain((await laptop.browsersFile()).stores[0]?.current.keyId)
  }, 600_000)

  it('go from a browser that is no more, and from all when the profile names no services', async () => {
    const laptop = await newLaptop()
    const profile = join(laptop.home, '.mozilla/firefox/abc.default')
    await mkdir(profile, { recursive: true })
    await writeFile(join(laptop.home, '.mozilla/firefox/profiles.ini'), `[Profile0]\nName=one\nIsRelative=1\nPath=abc.default\n[Profile1]\nName=gone\nIsRelative=0\nPath=/nonexistent/profile\n`)
    laptop.start()
    await until('both', () => Promise.resolve(laptop.placed.length === 2 || null), 60_000)
    await troubled(laptop, null)
    await rm(join(laptop.home, '.mozilla/firefox/profiles.ini'))
    laptop.changed()
    await until('one store', async () => (await laptop.browsersFile()).stores.length === 1 || null, 60_000)
    expect(await listed(profile)).toEqual([])
    laptop.services = []
    laptop.changed()
    await until('no record', async () => !(await readdir(laptop.state)).includes('browsers.json') || null, 60_000)
    expect(await listed(laptop.database)).toEqual([])
    expect(await readdir(join(laptop.root, 'etc/chromium/policies/managed'))).toEqual([])
  }, 600_000)

  it('leave a database alone that has a password of its own, and say so; the others are served', async () => {
    const laptop = await newLaptop()
    const profile = join(laptop.home, '.mozilla/firefox/abc.default')
    await mkdir(profile, { recursive: true })
    await writeFile(join(laptop.home, '.mozilla/firefox/profiles.ini'), `[Profile0]\nPath=abc.default\nIsRelative=1\n`)
    await writeFile(join(laptop.home, 'password'), 'correct horse\n')
    await run('certutil', ['-N', '-d', `sql:${profile}`, '-f', join(laptop.home, 'password')])
    laptop.start()
    await laptop.holds(ours(laptop))
    await troubled(laptop, /abc\.default: it has a password of its own/)
    expect(await listed(profile)).toEqual([])
  }, 600_000)

  it('are given to fifteen databases at most, and that there are more is said', async () => {
    const laptop = await newLaptop()
    const names = Array.from({ length: 16 }, (_, n) => `p${n}.default`)
    for (const name of names) await mkdir(join(laptop.home, '.mozilla/firefox', name), { recursive: true })
    await writeFile(join(laptop.home, '.mozilla/firefox/profiles.ini'), names.map((name, n) => `[Profile${n}]\nIsRelative=1\nPath=${name}\n`).join(''))
    laptop.start()
    await troubled(laptop, /Of 17 databases of browsers only 15 get a certificate/)
    expect(new Set(laptop.placed).size).toBe(15)
  }, 600_000)

  it('are a trouble that goes when the tools are missing and then installed', async () => {
    const laptop = await newLaptop()
    const kept = laptop.start({ installed: false })
    await troubled(laptop, /install libnss3-tools/)
    await kept.close()
    laptop.start()
    await laptop.holds(ours(laptop))
    await troubled(laptop, null)
  }, 600_000)

  it.skipIf(!isRoot)('of another user are that user\'s: nothing in the home belongs to root (needs root)', async () => {
    const laptop = await newLaptop(NOBODY)
    await chown(laptop.home, NOBODY, NOBODY)
    laptop.start()
    await until('a certificate', () => Promise.resolve(laptop.placed.length > 0 || null), 60_000)
    await troubled(laptop, null)
    const owners = await Promise.all(['.pki', '.pki/nssdb', '.pki/nssdb/cert9.db', '.pki/nssdb/key4.db'].map(async (path) => (await stat(join(laptop.home, path))).uid))
    expect(owners).toEqual([NOBODY, NOBODY, NOBODY, NOBODY])
    await letGoOfBrowsers({ stateDirectory: laptop.state, root: laptop.root, home: laptop.home, log })
    expect(await listed(laptop.database)).toEqual([])
  }, 600_000)

  it('go by the next start where a crash came between letting go and them', async () => {
    const laptop = await newLaptop()
    const kept = laptop.start()
    await laptop.holds(ours(laptop))
    await kept.close()
    await noteLetGo(laptop.state, { uid: laptop.uid, ems: scene.ems.address, reason: 'left', at: Date.now() })
    await rm(join(laptop.state, 'identity.json'))
    const start = () => startAgent({ stateDirectory: laptop.state, root: laptop.root, home: laptop.home, now: Date.now, log })
    await expect(start()).rejects.toMatchObject({ code: 'not_found' })
    expect(await listed(laptop.database)).toEqual([])
    expect(await readdir(laptop.state)).toEqual(['deregistered.json', 'documents.json', 'lock'])
    await expect(start()).rejects.toMatchObject({ code: 'not_found' })
  }, 600_000)
})

// What is installed: from texts of real tools, from directories that installers and vandals left, and from this machine beside the tools that know it best.
import { chmod, chown, link, mkdir, rename, rm, symlink, writeFile } from 'node:fs/promises'
import { execFileSync } from 'node:child_process'
import { dirname, join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { findHome } from '../../../agent/posture/home.ts'
import { createKept } from '../../../agent/posture/kept.ts'
import { linuxApplications, parseFlatpaks, parseSnaps } from '../../../agent/posture/linux/applications.ts'
import { distributionPackages, parseApk, parseDpkg, parseRpm } from '../../../agent/posture/linux/distribution-packages.ts'
import { linuxSoftware } from '../../../agent/posture/linux/software.ts'
import { npmPackages, parseManifest } from '../../../agent/posture/npm-packages.ts'
import { findLibraries } from '../../../agent/posture/places.ts'
import { parseMetadata, parseRecordName, pythonPackages, pythonPlaces } from '../../../agent/posture/python-packages.ts'
import { readCommand } from '../../../agent/posture/read.ts'
import { listSoftware } from '../../../agent/posture/software.ts'
import { sections } from '../../../protocol/facts.ts'
import { closeAll, temporaryDirectory } from '../agent-under-test.ts'
import { addFiles, machine } from './machine.ts'

afterEach(closeAll)
const nothing = () => Promise.resolve(null)
const noHome = () => Promise.resolve(null)
const own = process.getuid?.() ?? 0
const software = async (run: (file: string) => Promise<string | null>) => await linuxSoftware(await temporaryDirectory(), run, noHome)()
/** A clock at which nothing is too fresh to be believed at its second reading. */
function fastClock(): () => number {
  let ms = 0
  return () => { ms += 10_000; return ms }
}

describe('what the distribution installed', () => {
  it('is listed once each, in one order, whatever the names', async () => {
    const rows = 'ii \tzlib1g\t1:1.2\nii \tbash\t5.2\nrc \tremoved\t1\nii \tbash\t5.2\nii \tevil\u001b[31m\t1\u202e0\nii \t\t1\nnonsense\nii \tпакет\t1\n'
    const found = await software((file) => Promise.resolve(file === 'dpkg-query' ? rows : null))
    expect(sections.software.parse(found)).toEqual({ packages: [
      { ecosystem: 'deb', name: 'bash', version: '5.2' }, { ecosystem: 'deb', name: 'evil [31m', version: '1 0' }, { ecosystem: 'deb', name: 'zlib1g', version: '1:1.2' }, { ecosystem: 'deb', name: 'пакет', version: '1' },
    ] })
    expect(parseDpkg('')).toEqual([])
    expect(parseApk('busybox-1.36.1-r5 x86_64 {busybox}\nlib-foo-2-r0 x\nbroken\n')).toEqual([{ ecosystem: 'apk', name: 'busybox', version: '1.36.1-r5' }, { ecosystem: 'apk', name: 'lib-foo', version: '2-r0' }])
  })
  it('names what a package was built from where that is another, and a held one, for advisories go by it', () => {
    expect(parseDpkg('ii \tlibssl3\t3.0.15-1+b1\topenssl\t3.0.15-1\nhi \tcurl\t7.88\tcurl\t7.88\nun \tgone\t1\tgone\t1\n')).toEqual([
      { ecosystem: 'deb', name: 'libssl3', version: '3.0.15-1+b1', source: { name: 'openssl', version: '3.0.15-1' } }, { ecosystem: 'deb', name: 'curl', version: '7.88' },
    ])
    expect(parseRpm('openssl-libs\t1:3.0.7-27.el9\topenssl-3.0.7-27.el9.src.rpm\nbash\t5.2-1\tbash-5.2-1.src.rpm\ngpg-pubkey\t1-2\t(none)\n')).toEqual([
      { ecosystem: 'rpm', name: 'openssl-libs', version: '1:3.0.7-27.el9', source: { name: 'openssl', version: '1:3.0.7-27.el9' } }, { ecosystem: 'rpm', name: 'bash', version: '5.2-1' }, { ecosystem: 'rpm', name: 'gpg-pubkey', version: '1-2' },
    ])
  })
  it('is missing where no database tells, and taken from rpm or apk where those do', async () => {
    expect(await software(nothing)).toBeNull()
    expect(await software((file) => Promise.resolve(file === 'dpkg-query' ? '' : null))).toBeNull()
    // A stray dpkg beside a system of rpm.
    expect(await software((file) => Promise.resolve(file === 'rpm' ? 'bash\t5.2-1\n' : file === 'dpkg-query' ? '' : null))).toEqual({ packages: [{ ecosystem: 'rpm', name: 'bash', version: '5.2-1' }] })
    expect(await software((file) => Promise.resolve(file === 'apk' ? 'busybox-1.36.1-r5 x86_64\n' : null))).toEqual({ packages: [{ ecosystem: 'apk', name: 'busybox', version: '1.36.1-r5' }] })
  })
  it('is bounded, and comes before what fills a home', () => {
    const own = Array.from({ length: 3_000 }, (_, n) => ({ ecosystem: 'deb' as const, name: `z${n}`, version: '1' }))
    const flood = Array.from({ length: 30_000 }, (_, n) => ({ ecosystem: 'other' as const, name: `a${n}`, version: '1' }))
    const { packages } = sections.software.parse(listSoftware([...own, ...flood]))
    expect([packages.length, packages.filter(({ ecosystem }) => ecosystem === 'deb').length]).toEqual([20_000, 3_000])
    expect(listSoftware([{ ecosystem: 'npm', name: 'six', version: '1' }, { ecosystem: 'pypi', name: 'six', version: '1' }]).packages).toHaveLength(2)
  })
  it('is asked again only when the database changed', async () => {
    const root = await machine({ 'var/lib/dpkg/status': 'one' })
    let [asked, text] = [0, 'ii \tbash\t1\n']
    // A command that failed is asked again, whatever stands in the files.
    const list = distributionPackages(root, (file) => Promise.resolve(file === 'dpkg-query' && ++asked > 1 ? text : null))
    expect(await list()).toBeNull()
    expect(await list()).toHaveLength(1)
    text = 'ii \tbash\t2\n'
    await writeFile(join(root, 'var/lib/dpkg/status'), 'three')
    expect((await list())?.[0]?.version).toBe('2')
  })
  it('is not given up soon: its tools yield to all others, on a busy machine for long', async () => {
    const limits: unknown[] = []
    const list = distributionPackages(await machine({ 'var/lib/dpkg/status': 'one' }), (_file, _args, timeoutMs) => {
      limits.push(timeoutMs)
      return Promise.resolve(null)
    })
    await list()
    expect(limits).toEqual([120_000, 120_000, 120_000])
  })
  it('is here what dpkg lists', async ({ skip }) => {
    if (await readCommand('dpkg-query', ['--version']) === null) return skip('there is no dpkg')
    const listed = execFileSync('dpkg-query', ['-l'], { encoding: 'utf8', env: { ...process.env, COLUMNS: '500' } }).split('\n').flatMap((row) => /^.i\s+(\S+?)(?::\S+)?\s+(\S+)/.exec(row)?.slice(1).join(' ') ?? [])
    const found = await distributionPackages('/', readCommand)()
    expect(found?.map(({ name, version }) => `${name} ${version}`).sort()).toEqual(listed.sort())
  }, 300_000)
})

describe('a kept reading', () => {
  it('lasts while its files are the same, but is not trusted when it was taken at once after a change', async () => {
    const root = await machine({ a: '1' })
    let [ms, reads] = [0, 0]
    const kept = createKept<number>(() => ms)
    const read = () => kept('a', [join(root, 'a'), join(root, 'missing')], () => Promise.resolve(++reads))
    expect([await read(), await read()]).toEqual([1, 2])
    ms = 2_000
    expect([await read(), await read(), await read()]).toEqual([3, 3, 3])
    await writeFile(join(root, 'a'), '2')
    expect(await read()).toBe(4)
    ms = 9_000
    expect([await read(), await read()]).toEqual([5, 5])
    await writeFile(join(root, 'missing'), '')
    expect(await read()).toBe(6)
    await rm(join(root, 'a'))
    expect(await read()).toBe(7)
  })
  it('keeps no failure, and not more than it can hold', async () => {
    let ms = 0
    const kept = createKept<number | null>(() => (ms += 5_000))
    let reads = 0
    const read = (key: string, value: number | null) => kept(key, [], () => { reads++; return Promise.resolve(value) })
    await read('null', null)
    await read('null', null)
    await read('null', null)
    expect(reads).toBe(3)
    for (let pass = 0; pass < 3; pass++) for (let n = 0; n < 600; n++) await read(`k${n}`, n)
    expect(reads).toBe(3 + 1_800)
    const before = reads
    for (let pass = 0; pass < 3; pass++) for (let n = 0; n < 500; n++) await read(`j${n}`, n)
    expect(reads - before).toBe(1_000)
  })
})

const METADATA = 'Metadata-Version: 2.1\nName: Zope.Interface_X\nVersion: 6.0\nSummary: x\n\nName: not this\n'

describe('Python packages', () => {
  it('are read from their records, named as advisories name them', async () => {
    const root = await machine({
      'usr/local/lib/python3.11/dist-packages/zope.interface_x-6.0.dist-info/METADATA': METADATA,
      'usr/local/lib/python3.11/dist-packages/zope/interface.py': '',
      'usr/local/lib/python3.11/site-packages/old-1.0-py3.11.egg-info/PKG-INFO': 'Name: old\r\nVersion: 1.0\r\n\r\n',
      'usr/local/lib/python3.11/site-packages/flat-2.0.egg-info': 'Name: flat\nVersion: 2.0\n',
      'usr/local/lib/python3.11/site-packages/egg-3.0-py3.11.egg/EGG-INFO/PKG-INFO': 'Name: egg\nVersion: 3.0\n',
      'usr/local/lib/python3.11/site-packages/~ailed-1.dist-info/METADATA': 'Name: failed\nVersion: 1\n',
      'usr/local/lib/python3.11/site-packages/No_Metadata-4.1.post1.dist-info/METADATA': 'garbage',
      'usr/local/lib/python3.11/site-packages/nothing-at-all.dist-info/': '',
      'home/ada/.local/lib/python3.12/site-packages/user_made-0.1.dist-info/METADATA': 'Name: user-made\nVersion: 0.1\n',
      'home/ada/.local/share/pipx/venvs/black/lib/python3.12/site-packages/black-24.1.0.dist-info/METADATA': 'Name: black\nVersion: 24.1.0\n',
      'home/other/.local/lib/python3.12/site-packages/others-1.dist-info/METADATA': 'Name: others\nVersion: 1\n',
    })
    const found = await pythonPackages()({ root, home: { path: join(root, 'home/ada'), uid: own } })
    expect(sections.software.parse({ packages: found }).packages.map(({ ecosystem, name, version }) => `${ecosystem} ${name} ${version}`).sort()).toEqual([
      'pypi black 24.1.0', 'pypi egg 3.0', 'pypi flat 2.0', 'pypi no-metadata 4.1.post1', 'pypi old 1.0', 'pypi user-made 0.1', 'pypi zope-interface-x 6.0',
    ])
  })
  it('of the distribution are in its own database, with the fixes it carried back; what pip put beside them counts', async () => {
    const at = 'usr/lib/python3.12/site-packages'
    const root = await machine({
      [`${at}/urllib3-1.26.5.dist-info/METADATA`]: 'Name: urllib3\nVersion: 1.26.5\n', [`${at}/urllib3-1.26.5.dist-info/INSTALLER`]: 'rpm\n',
      [`${at}/yaml-6.0.dist-info/METADATA`]: 'Name: yaml\nVersion: 6.0\n', [`${at}/yaml-6.0.dist-info/INSTALLER`]: 'debian',
      [`${at}/silent-1.dist-info/METADATA`]: 'Name: silent\nVersion: 1\n',
      [`${at}/flask-3.0.dist-info/METADATA`]: 'Name: Flask\nVersion: 3.0\n', [`${at}/flask-3.0.dist-info/INSTALLER`]: 'pip\n',
    })
    expect(await pythonPackages()({ root, home: null })).toEqual([{ ecosystem: 'pypi', name: 'flask', version: '3.0' }])
  })
  it('of hostile making hold nothing up, publish no other\'s file, and are bounded', async () => {
    const root = await temporaryDirectory()
    const at = join(root, 'usr/local/lib/python3.11/site-packages')
    const record = async (name: string, text: string | null) => {
      await mkdir(join(at, name), { recursive: true })
      if (text !== null) await writeFile(join(at, name, 'METADATA'), text)
      return join(at, name, 'METADATA')
    }
    execFileSync('mkfifo', [await record('pipe-1.dist-info', null)])
    await symlink('/dev/zero', await record('zero-1.dist-info', null))
    await symlink('/', await record('directory-1.dist-info', null))
    await record('huge-1.dist-info', `Name: huge\nVersion: 1\n${'x'.repeat(10_000_000)}`)
    await record('late-1.5.dist-info', `${'X: y\n'.repeat(50_000)}Name: late\nVersion: 2\n`)
    await record('шрифт-1.dist-info', 'Name: шрифт\u202e\u0007\nVersion: 1\u2028\n')
    await record('long-1.dist-info', `Name: ${'a'.repeat(400)}\nVersion: ${'9'.repeat(400)}\n`)
    await record('blank-1.dist-info', 'Name:   \nVersion: \n')
    const found = sections.software.parse({ packages: await pythonPackages()({ root, home: null }) }).packages
    expect(found.map(({ name, version }) => `${name.slice(0, 8)} ${version.slice(0, 8)}`).sort()).toEqual(['aaaaaaaa 99999999', 'blank 1', 'huge 1', 'late 1.5', 'шрифт 1'])
    await rm(at, { recursive: true })
    for (let n = 0; n < 6_000; n++) await record(`p${n}-1.dist-info`, `Name: p${n}\nVersion: 1\n`)
    expect(await pythonPackages()({ root, home: null })).toHaveLength(5_000)
  }, 180_000)
  it.skipIf(own !== 0)('in a home count only when they are its owner\'s: a link would publish what only root may read', async () => {
    const root = await temporaryDirectory()
    const at = join(root, 'home/ada/.local/lib/python3.12/site-packages')
    const secret = join(root, 'secret')
    await writeFile(secret, 'Name: secret\nVersion: 1\n')
    await chmod(secret, 0o600)
    for (const name of ['soft-1.dist-info', 'hard-1.dist-info', 'hers-1.dist-info']) await mkdir(join(at, name), { recursive: true })
    await symlink(secret, join(at, 'soft-1.dist-info/METADATA'))
    await link(secret, join(at, 'hard-1.dist-info/METADATA'))
    await writeFile(join(at, 'hers-1.dist-info/METADATA'), 'Name: hers\nVersion: 1\n')
    await chown(join(at, 'hers-1.dist-info/METADATA'), 12_345, 12_345)
    expect(await pythonPackages()({ root, home: { path: join(root, 'home/ada'), uid: 12_345 } })).toEqual([{ ecosystem: 'pypi', name: 'hers', version: '1' }])
  })
  it('are not read again while their directory is unchanged, and are when something is installed', async () => {
    const at = 'usr/local/lib/python3.11/site-packages'
    const root = await machine({ [`${at}/one-1.dist-info/METADATA`]: 'Name: one\nVersion: 1\n' })
    const list = pythonPackages(fastClock())
    const names = async () => (await list({ root, home: null })).map(({ name, version }) => `${name} ${version}`).sort()
    await names()
    expect(await names()).toEqual(['one 1'])
    await writeFile(join(root, at, 'one-1.dist-info/METADATA'), 'Name: one\nVersion: 1.edited\n')
    expect(await names()).toEqual(['one 1'])
    await rename(join(root, at, 'one-1.dist-info'), join(root, at, 'one-2.dist-info'))
    await writeFile(join(root, at, 'one-2.dist-info/METADATA'), 'Name: one\nVersion: 2\n')
    await addFiles(root, { [`${at}/two-1.dist-info/METADATA`]: 'Name: two\nVersion: 1\n' })
    expect(await names()).toEqual(['one 2', 'two 1'])
  })
  it('have a name and a version, or their record\'s name has', () => {
    expect(parseMetadata('Version: 1\nname: a\n\n')).toEqual({ name: 'a', version: '1' })
    expect([parseMetadata(''), parseMetadata('\n\nName: a\nVersion: 1\n'), parseMetadata('Name: a\n\nVersion: 1\n')]).toEqual([null, null, null])
    expect(parseRecordName('zope.event-5.0-py3.11-nspkg.egg-info')).toEqual({ name: 'zope.event', version: '5.0' })
    expect([parseRecordName('a.dist-info'), parseRecordName('-1.dist-info'), parseRecordName('a-b-c.dist-info'), parseRecordName('шрифт-1.dist-info')]).toEqual([null, null, null, null])
  })

  it('are here what pip lists', async ({ skip }) => {
    const home = await findHome('/', own, readCommand)
    const libraries = (await findLibraries({ root: '/', home }, pythonPlaces)).filter(({ distributions }) => !distributions)
    if (libraries.length === 0 || await readCommand('/usr/bin/python3', ['-m', 'pip', '--version']) === null) return skip('there is no pip, or nothing but the distribution\'s')
    const listed = libraries.flatMap(({ path }) => (JSON.parse(execFileSync('/usr/bin/python3', ['-m', 'pip', 'list', '--format=json', '--disable-pip-version-check', '--path', path], { encoding: 'utf8' })) as { name: string; version: string }[]))
    const found = await pythonPackages()({ root: '/', home })
    const names = (all: readonly { name: string; version: string }[]) => all.map(({ name, version }) => `${name.toLowerCase().replaceAll(/[-_.]+/g, '-')} ${version}`).sort()
    expect(names(found)).toEqual(names(listed))
  }, 180_000)
})

describe('npm packages', () => {
  it('are those that were installed globally, scopes too, and nothing they bundle', async () => {
    const at = 'usr/local/lib/node_modules'
    const root = await machine({
      [`${at}/typescript/package.json`]: '{"name":"typescript","version":"5.4.5"}', [`${at}/typescript/node_modules/inner/package.json`]: '{"name":"inner","version":"1.0.0"}',
      [`${at}/@angular/cli/package.json`]: '{"name":"@angular/cli","version":"17.0.0"}', [`${at}/.package-lock.json`]: '{}', [`${at}/.typescript-x1/package.json`]: '{"name":"typescript","version":"4.0.0"}',
      [`${at}/broken/package.json`]: '{', [`${at}/list/package.json`]: '[]', [`${at}/nameless/package.json`]: '{"version":"1"}', [`${at}/odd/package.json`]: '{"name":{"toString":1},"version":["1"]}',
      [`${at}/evil/package.json`]: '{"name":"ev\\u202eil","version":"1\\ud800"}',
      'home/ada/.nvm/versions/node/v22.1.0/lib/node_modules/pnpm/package.json': '{"name":"pnpm","version":"9.0.0"}',
    })
    const found = await npmPackages()({ root, home: { path: join(root, 'home/ada'), uid: own } })
    expect(sections.software.parse({ packages: found }).packages.map(({ ecosystem, name, version }) => `${ecosystem} ${name} ${version}`)).toEqual([
      'npm ev il 1', 'npm typescript 5.4.5', 'npm @angular/cli 17.0.0', 'npm pnpm 9.0.0',
    ])
    expect([parseManifest('null'), parseManifest('"x"'), parseManifest('')]).toEqual([null, null, null])
  })
  it('are not read again while their directories are unchanged, and a change inside a scope is one', async () => {
    const at = 'usr/local/lib/node_modules'
    const root = await machine({ [`${at}/one/package.json`]: '{"name":"one","version":"1.0.0"}', [`${at}/@s/two/package.json`]: '{"name":"@s/two","version":"1.0.0"}' })
    const list = npmPackages(fastClock())
    const names = async () => (await list({ root, home: null })).map(({ name, version }) => `${name} ${version}`)
    await names()
    expect(await names()).toEqual(['one 1.0.0', '@s/two 1.0.0'])
    await writeFile(join(root, at, 'one/package.json'), '{"name":"one","version":"1.1.0"}')
    expect(await names()).toEqual(['one 1.0.0', '@s/two 1.0.0'])
    await addFiles(root, { [`${at}/@s/three/package.json`]: '{"name":"@s/three","version":"3.0.0"}' })
    expect((await names()).toSorted()).toEqual(['@s/three 3.0.0', '@s/two 1.0.0', 'one 1.0.0'])
  })
  it('are here what npm lists', async ({ skip }) => {
    if (await readCommand('npm', ['--version']) === null) return skip('there is no npm')
    // npm lists one prefix at a time.
    const home = await findHome('/', own, readCommand)
    const found = await npmPackages()({ root: '/', home })
    const prefixes = ['/usr', '/usr/local'].flatMap((prefix) => Object.entries((JSON.parse(execFileSync('npm', ['ls', '--global', '--json', '--depth=0', '--prefix', prefix], { encoding: 'utf8', cwd: dirname(prefix) })) as { dependencies?: Record<string, { version: string }> }).dependencies ?? {}))
    expect(found.filter(({ name }) => prefixes.some(([listed]) => listed === name)).map(({ name, version }) => `${name} ${version}`).sort()).toEqual(prefixes.map(([name, { version }]) => `${name} ${version}`).sort())
  }, 180_000)
})

describe('applications', () => {
  // As the tools print them, headings and all.
  const snaps = 'Name               Version          Rev    Tracking         Publisher          Notes\ncore22             20240904         1621   latest/stable    canonical**        base\nfirefox            131.0.2-1        5091   latest/stable/…  mozilla**          -\nhello-world        -                29     latest/stable    canonical**        -\n'
  const flatpaks = 'org.mozilla.firefox\t131.0.2\norg.example.Unversioned\t\n\u202eevil\t1\n\t9\n'
  it('of snap and Flatpak are listed with their versions', async () => {
    expect(parseSnaps(snaps).map(({ name, version }) => [name, version])).toEqual([['core22', '20240904'], ['firefox', '131.0.2-1'], ['hello-world', '']])
    expect(parseFlatpaks(flatpaks).map(({ name, version }) => [name, version])).toEqual([['org.mozilla.firefox', '131.0.2'], ['org.example.Unversioned', ''], ['evil', '1']])
    const asked: string[] = []
    const applications = async (files: Record<string, string>) => await linuxApplications(await machine({ x: '', ...files }), (file) => {
      asked.push(file)
      return Promise.resolve(file === 'snap' ? snaps : null)
    })()
    expect(sections.software.parse({ packages: await applications({ 'var/lib/snapd/snaps/x': '', 'var/lib/flatpak/.changed': '' }) }).packages).toHaveLength(3)
    expect(await applications({})).toEqual([])
    expect(asked).toEqual(['snap', 'flatpak'])
    expect([parseSnaps('No snaps are installed yet. Try \'snap install hello-world\'.\n'), parseSnaps(''), parseFlatpaks('')]).toEqual([[], [], []])
  })
})

describe('a home', () => {
  it('is the account\'s own, else what the system tells', async () => {
    const root = await machine({ 'etc/passwd': 'ada:x:70001:1::/home/ada:/bin/sh\ndaemon:x:70002:1::/:/bin/sh\nodd:x:70003:1::relative:/bin/sh\nshort:x:70004\n' })
    expect(await findHome(root, 70_001, nothing)).toEqual({ path: join(root, 'home/ada'), uid: 70_001 })
    expect([await findHome(root, 70_002, nothing), await findHome(root, 70_003, nothing), await findHome(root, 70_004, nothing), await findHome(root, 70_005, nothing)]).toEqual([null, null, null, null])
    expect(await findHome(root, 70_006, () => Promise.resolve('grace:*:70006:1:G:/home/grace:/bin/sh\n'))).toEqual({ path: join(root, 'home/grace'), uid: 70_006 })
  })
})

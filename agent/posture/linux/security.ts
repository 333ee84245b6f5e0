// How the machine is protected: firewall, disk encryption, mandatory access control, updates, secure boot. What can't be seen is `unknown`.
import { readFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import type { Sections } from '../../../protocol/facts.ts'
import { firewallState } from './firewall.ts'
import { readCommand, readNames, readTarget, readText, type RunCommand } from '../read.ts'

type Security = Sections['security']
type State = Security['secureBoot']
const MAX_STACK = 8

/** Whether the block device is encrypted, itself or anything it is stacked on (LVM on LUKS). */
async function encrypted(root: string, device: string, depth = 0): Promise<State> {
  const at = join(root, 'sys/class/block', device)
  if (depth > MAX_STACK || await readNames(at) === null) return 'unknown'
  if ((await readText(join(at, 'dm/uuid')))?.startsWith('CRYPT-') === true) return 'on'
  const below = await readNames(join(at, 'slaves')) ?? []
  const states = await Promise.all(below.map((slave) => encrypted(root, slave, depth + 1)))
  // One plain disk under a volume is enough to read it.
  return states.length === 0 || states.includes('off') ? 'off' : states.includes('unknown') ? 'unknown' : 'on'
}

/** The device that `/` is mounted from, by its kernel name; null when it is none (overlay, network). */
export async function rootDevice(root: string): Promise<string | null> {
  const mount = (await readText(join(root, 'proc/mounts')) ?? '').split('\n').map((row) => row.split(' ')).findLast(([, at]) => at === '/')
  const source = mount?.[0] ?? ''
  if (!source.startsWith('/dev/')) return null
  const target = await readTarget(join(root, source))
  return basename(target ?? source)
}

async function diskEncryption(root: string): Promise<Security['diskEncryption']> {
  const device = await rootDevice(root)
  const state = device === null ? 'unknown' : await encrypted(root, device)
  return { state, method: state === 'on' ? 'dm-crypt' : '' }
}

async function mandatoryAccessControl(root: string): Promise<Security['mandatoryAccessControl']> {
  const modules = (await readText(join(root, 'sys/kernel/security/lsm')))?.trim().split(',')
  const enforcing = (await readText(join(root, 'sys/fs/selinux/enforce')))?.trim()
  if (enforcing !== undefined) return { state: enforcing === '1' ? 'on' : 'off', product: 'selinux' }
  const apparmor = (await readText(join(root, 'sys/module/apparmor/parameters/enabled')))?.trim()
  if (modules === undefined && apparmor === undefined) return { state: 'unknown', product: '' }
  return apparmor === 'Y' && modules?.includes('apparmor') !== false ? { state: 'on', product: 'apparmor' } : { state: 'off', product: '' }
}

/** apt.conf(5) fragments in order; the last word counts, comments do not. */
export function unattended(fragments: readonly string[]): boolean {
  const said = fragments.flatMap((text) => text.split('\n').filter((row) => !/^\s*(\/\/|#)/.test(row)))
    .flatMap((row) => /APT::Periodic::Unattended-Upgrade\s+"(\d+)(?:[smhd]|always)?"/i.exec(row)?.[1] ?? [])
  return said.length > 0 && said.at(-1) !== '0'
}

async function automaticUpdates(root: string): Promise<Security['automaticUpdates']> {
  const directory = join(root, 'etc/apt/apt.conf.d')
  const names = await readNames(directory)
  if (names === null) return { state: 'unknown', product: '' }
  const fragments = await Promise.all(names.sort().map((name) => readText(join(directory, name))))
  return { state: unattended(fragments.filter((text) => text !== null)) ? 'on' : 'off', product: 'unattended-upgrades' }
}

/** The EFI variable: four bytes of attributes, then one that says it. A machine that did not boot by EFI has no secure boot. */
async function secureBoot(root: string): Promise<State> {
  if (await readNames(join(root, 'sys/firmware')) === null) return 'unknown'
  if (await readNames(join(root, 'sys/firmware/efi')) === null) return 'off'
  const variable = await readFile(join(root, 'sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c')).catch(() => null)
  return variable?.length === 5 ? (variable[4] === 1 ? 'on' : 'off') : 'unknown'
}

/** @param root where the machine's file system begins */
export async function linuxSecurity(root: string, run: RunCommand = readCommand): Promise<Security> {
  return {
    firewall: firewallState(await run('nft', ['list', 'ruleset'])), diskEncryption: await diskEncryption(root),
    mandatoryAccessControl: await mandatoryAccessControl(root), automaticUpdates: await automaticUpdates(root), secureBoot: await secureBoot(root),
  }
}

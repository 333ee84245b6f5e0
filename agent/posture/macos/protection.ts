// How a Mac is protected, by its own tools: disk, firewall, Gatekeeper, system integrity, updates, XProtect. What they do not say plainly is `unknown`.
import { z } from 'zod'
import type { Sections, State } from '../../../protocol/facts.ts'
import { defenderForEndpoint } from '../linux/defender.ts'
import { asLine, parseJson, type RunCommand } from '../read.ts'

type Security = Sections['security']
const XPROTECT = '/Library/Apple/System/Library/CoreServices/XProtect.bundle/Contents/Info'

const says = (text: string | null, on: RegExp, off: RegExp): State => (text === null ? 'unknown' : on.test(text) ? 'on' : off.test(text) ? 'off' : 'unknown')

/** `fdesetup status`. While it encrypts, not everything is. */
export const parseFileVault = (text: string | null): State => (text !== null && /^Encryption in progress/m.test(text) ? 'off' : says(text, /^FileVault is On/m, /^FileVault is Off/m))
/** `socketfilterfw --getglobalstate`: 1 filters, 2 refuses everything. */
export const parseFirewall = (text: string | null): State => says(text, /\(State = [12]\)/, /\(State = 0\)/)
/** `spctl --status`. */
export const parseGatekeeper = (text: string | null): State => says(text, /^assessments enabled$/m, /^assessments disabled$/m)
/** `csrutil status`. Enabled with exceptions is neither. */
export const parseIntegrity = (text: string | null): State => says(text, /status: enabled\.\s*$/m, /status: disabled\.?/)
/** `defaults read` of a switch. */
export const parseSwitch = (text: string | null): State => says(text?.trim() ?? null, /^(1|true|yes)$/i, /^(0|false|no)$/i)

const installed = z.object({ _name: z.string(), install_date: z.iso.datetime(), package_source: z.string().optional() })
const history = z.object({ SPInstallHistoryDataType: z.array(z.unknown()) })
/** `system_profiler -json SPInstallHistoryDataType`: the latest of what has such a name (ms). */
export function lastInstall(told: unknown, named: RegExp): number | null {
  const read = history.safeParse(told)
  const dates = (read.success ? read.data.SPInstallHistoryDataType : []).flatMap((row) => {
    const entry = installed.safeParse(row)
    return entry.success && named.test(entry.data._name) ? [Date.parse(entry.data.install_date)] : []
  })
  return dates.length === 0 ? null : Math.max(...dates)
}

export async function macosSecurity(run: RunCommand): Promise<Security> {
  const [fileVault, firewall, gatekeeper, systemIntegrity, automaticUpdates] = [
    parseFileVault(await run('/usr/bin/fdesetup', ['status'])), parseFirewall(await run('/usr/libexec/ApplicationFirewall/socketfilterfw', ['--getglobalstate'])),
    parseGatekeeper(await run('/usr/sbin/spctl', ['--status'])), parseIntegrity(await run('/usr/bin/csrutil', ['status'])),
    parseSwitch(await run('/usr/bin/defaults', ['read', '/Library/Preferences/com.apple.SoftwareUpdate', 'AutomaticallyInstallMacOSUpdates'])),
  ]
  return {
    firewall: { state: firewall, product: 'Application Firewall' }, diskEncryption: { state: fileVault, method: fileVault === 'on' ? 'FileVault' : '' },
    mandatoryAccessControl: { state: systemIntegrity, product: 'System Integrity Protection' }, automaticUpdates: { state: automaticUpdates, product: 'Software Update' }, secureBoot: 'unknown',
    macos: { fileVault, firewall, gatekeeper, systemIntegrity, automaticUpdates },
  }
}

/** It takes a second to list and changes by the day. */
const askHistory = async (run: RunCommand): Promise<unknown> => {
  const text = await run('/usr/sbin/system_profiler', ['-json', 'SPInstallHistoryDataType'], 60_000)
  return text === null ? undefined : parseJson(text)
}

/** XProtect is part of the system: it looks at what is opened as long as Gatekeeper assesses it. */
export async function macosAntivirus(run: RunCommand): Promise<Sections['antivirus'] | null> {
  const version = (await run('/usr/bin/defaults', ['read', XPROTECT, 'CFBundleShortVersionString']))?.trim() ?? ''
  const other = await defenderForEndpoint('/', run)()
  const at = version === '' ? null : lastInstall(await askHistory(run), /^XProtectPlistConfigData/)
  const own = version === '' ? [] : [{
    name: 'XProtect', running: parseGatekeeper(await run('/usr/sbin/spctl', ['--status'])), source: 'xprotect', signaturesVersion: asLine(version, 64), ...(at === null ? {} : { signaturesAt: at }),
  }]
  const products = [...own, ...other === null ? [] : [other]]
  return products.length === 0 ? null : { products }
}

/** Updates of the system itself, not of its programs or signatures. */
export async function macosUpdates(run: RunCommand): Promise<Sections['updates'] | null> {
  const at = lastInstall(await askHistory(run), /^(macOS |Security Update |Background Security Improvement|Rapid Security Response)/)
  return at === null ? null : { installedAt: at }
}

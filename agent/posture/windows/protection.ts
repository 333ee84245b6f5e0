// How Windows is protected, by one question to PowerShell for two sections: it takes half a second to start. What it does not tell is absent or `unknown`.
import { z } from 'zod'
import type { Sections, State } from '../../../protocol/facts.ts'
import { asLine, type RunCommand } from '../read.ts'
import { askPowerShell, dateText, rowsOf } from './powershell.ts'

type Security = Sections['security']
type Product = Sections['antivirus']['products'][number]

const SCRIPT = `@{
defender = Get-MpComputerStatus | Select-Object AMProductVersion,AMRunningMode,RealTimeProtectionEnabled,IsTamperProtected,AntivirusSignatureLastUpdated,AntivirusSignatureVersion
center = @(Get-CimInstance -Namespace root/SecurityCenter2 -ClassName AntiVirusProduct | Select-Object displayName,productState)
firewall = @(Get-NetFirewallProfile -PolicyStore ActiveStore | ForEach-Object { @{ name = $_.Name; enabled = [int]$_.Enabled } })
volumes = @(Get-CimInstance -Namespace root/cimv2/Security/MicrosoftVolumeEncryption -ClassName Win32_EncryptableVolume | Select-Object DriveLetter,ProtectionStatus,VolumeType)
uac = (Get-ItemProperty HKLM:/SOFTWARE/Microsoft/Windows/CurrentVersion/Policies/System).EnableLUA
updates = Get-ItemProperty HKLM:/SOFTWARE/Policies/Microsoft/Windows/WindowsUpdate/AU | Select-Object NoAutoUpdate,AUOptions
updateService = [string](Get-Service wuauserv).StartType
secureBoot = $(try { Confirm-SecureBootUEFI -ErrorAction Stop } catch [PlatformNotSupportedException] { $false } catch { $null })
}`.replaceAll('\n', ';').replace('@{;', '@{')

const optional = <T extends z.ZodType>(shape: T) => shape.nullish().catch(null)
const answer = z.object({
  defender: optional(z.object({
    AMProductVersion: optional(z.string()), AMRunningMode: optional(z.string()), RealTimeProtectionEnabled: optional(z.boolean()), IsTamperProtected: optional(z.boolean()),
    AntivirusSignatureLastUpdated: optional(dateText), AntivirusSignatureVersion: optional(z.string()),
  })),
  center: z.unknown().optional(), firewall: z.unknown().optional(), volumes: z.unknown().optional(),
  uac: optional(z.number()), updates: optional(z.object({ NoAutoUpdate: optional(z.number()), AUOptions: optional(z.number()) })), updateService: optional(z.string()), secureBoot: optional(z.boolean()),
})
type Answer = z.infer<typeof answer>
const scanner = z.object({ displayName: z.string().min(1), productState: z.number().int().min(0) })
const profile = z.object({ name: z.string(), enabled: z.number() })
const volume = z.object({ DriveLetter: z.string().regex(/^[A-Z]:$/), ProtectionStatus: z.number(), VolumeType: z.number() })

const stateOf = (told: boolean | null | undefined): State => (told === undefined || told === null ? 'unknown' : told ? 'on' : 'off')
const allOf = (states: readonly State[]): State => (states.length === 0 ? 'unknown' : states.includes('off') ? 'off' : states.includes('unknown') ? 'unknown' : 'on')

/** Without a policy Windows updates itself; a policy may forbid it, or only tell of updates (2, 3). */
function updatesState({ updates, updateService }: Answer): State {
  if (updateService === undefined || updateService === null || updateService === '') return 'unknown'
  return updateService !== 'Disabled' && updates?.NoAutoUpdate !== 1 && updates?.AUOptions !== 2 && updates?.AUOptions !== 3 ? 'on' : 'off'
}

/** What PowerShell told, as the section. */
export function parseSecurity(told: unknown): Security | null {
  const read = answer.safeParse(told)
  if (!read.success) return null
  const { defender, uac, secureBoot } = read.data
  const profiles = new Map(rowsOf(profile, read.data.firewall).map(({ name, enabled }) => [name, stateOf(enabled === 1 ? true : enabled === 0 ? false : null)]))
  // Removable ones come and go.
  const bitlocker = rowsOf(volume, read.data.volumes).filter(({ VolumeType }) => VolumeType !== 2).slice(0, 26)
    .map(({ DriveLetter, ProtectionStatus, VolumeType }) => ({ drive: DriveLetter, state: stateOf(ProtectionStatus === 1 ? true : ProtectionStatus === 0 ? false : null), system: VolumeType === 0 })).sort((a, b) => (a.drive < b.drive ? -1 : 1))
  const [firewall, encryption, automatic] = [allOf(['Domain', 'Private', 'Public'].map((name) => profiles.get(name) ?? 'unknown')), allOf(bitlocker.map(({ state }) => state)), updatesState(read.data)]
  return {
    firewall: { state: firewall, product: 'Windows Firewall' }, diskEncryption: { state: encryption, method: encryption === 'on' ? 'BitLocker' : '' },
    mandatoryAccessControl: { state: 'unknown', product: '' }, automaticUpdates: { state: automatic, product: 'Windows Update' }, secureBoot: stateOf(secureBoot),
    windows: {
      defenderRealTime: stateOf(defender?.RealTimeProtectionEnabled), tamperProtection: stateOf(defender?.IsTamperProtected), ...(bitlocker.length === 0 ? {} : { bitlocker }),
      firewallDomain: profiles.get('Domain') ?? 'unknown', firewallPrivate: profiles.get('Private') ?? 'unknown', firewallPublic: profiles.get('Public') ?? 'unknown',
      automaticUpdates: automatic, uac: stateOf(uac === 1 ? true : uac === 0 ? false : null),
    },
  }
}

/** Scanners that registered with Windows, and Defender by its own word. Of a product's state the fourth digit from the right tells: 1 guards, 0, 2 and 3 (off, snoozed, expired) do not. */
export function parseAntivirus(told: unknown): Sections['antivirus'] | null {
  const read = answer.safeParse(told)
  if (!read.success) return null
  const { defender, center } = read.data
  const others = rowsOf(scanner, center)
  if ((defender === undefined || defender === null) && others.length === 0) return null
  const products: Product[] = others.filter(({ displayName }) => !defender || !/^(Windows|Microsoft) Defender/i.test(displayName)).flatMap(({ displayName, productState }) => {
    const name = asLine(displayName, 128)
    return name === '' ? [] : [{ name, running: ((productState >> 12) & 0xf) === 1 ? 'on' as const : 'off' as const, source: 'security-center' }]
  }).slice(0, 15)
  if (!defender) return { products }
  const { AMProductVersion: version, AMRunningMode: mode, RealTimeProtectionEnabled: guards, AntivirusSignatureLastUpdated: at, AntivirusSignatureVersion: signatures } = defender
  // Beside another product Defender only watches.
  const running = stateOf(guards === true && typeof mode === 'string' && mode !== 'Normal' ? false : guards)
  return { products: [{
    name: 'Microsoft Defender', running, source: 'defender', ...(version ? { version: asLine(version, 64) } : {}), ...(at === undefined || at === null ? {} : { signaturesAt: at }), ...(signatures ? { signaturesVersion: asLine(signatures, 64) } : {}),
  }, ...products] }
}

/** Both probes ask at the same time, and get one answer. */
export function windowsProtection(run: RunCommand): { security(): Promise<Security | null>; antivirus(): Promise<Sections['antivirus'] | null> } {
  let asking: Promise<unknown> | null = null
  const ask = (): Promise<unknown> => asking ??= askPowerShell(run, SCRIPT).finally(() => { asking = null })
  return { security: async () => parseSecurity(await ask()), antivirus: async () => parseAntivirus(await ask()) }
}

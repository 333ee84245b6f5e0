// Certificates of the machine's and the agent account's stores on Windows.
import { z } from 'zod'
import type { InstalledCertificate } from '../../../domain/tagging/device.ts'
import { describeCertificate } from '../../../identity/describe-certificate.ts'
import type { RunCommand } from '../read.ts'
import { askPowerShell, rowsOf } from './powershell.ts'

const SCRIPT = '@(Get-ChildItem Cert:\\LocalMachine,Cert:\\CurrentUser -Recurse | Where-Object { $_ -is [Security.Cryptography.X509Certificates.X509Certificate2] } | Select-Object -First 4000 | ForEach-Object { @{ der = [Convert]::ToBase64String($_.RawData); key = $_.HasPrivateKey } })'
const row = z.object({ der: z.base64().max(100_000), key: z.boolean() })

/** Every certificate once. Throws when the stores can't be asked: what is not seen must not be taken for missing. */
export function windowsCertificates(run: RunCommand): () => Promise<InstalledCertificate[]> {
  return async () => {
    const told = await askPowerShell(run, SCRIPT)
    if (told === undefined) throw new Error('the certificate stores can not be read')
    const once = new Map<string, InstalledCertificate>()
    for (const { der, key } of rowsOf(row, told)) {
      const described = await describeCertificate(Buffer.from(der, 'base64'))
      if (described === null) continue
      const { fingerprint, keyFingerprint: _, ...said } = described
      once.set(fingerprint, { ...said, hasPrivateKey: key || once.get(fingerprint)?.hasPrivateKey === true })
    }
    return [...once.values()]
  }
}

// Which certificates of gateways are void before their end, as the EMS's signed list says; and which gateways were met with one. It cuts nothing itself.

/** What a connection to a gateway needs to know. */
export interface Revocations {
  /** Whether this certificate is void. What one meets with is remembered for the status. @param certificateSerial hex, as TLS tells it */
  refuses(gateway: string, certificateSerial: string): boolean
  /** Told of each new list; returns how to stop listening. */
  onChange(listener: () => void): () => void
}

export interface RevocationOptions {
  /** Serials of certificates, 40 upper-case hex digits. */
  readonly list: () => readonly string[]
  readonly onList: (listener: () => void) => () => void
  /** The gateways that now are met with a certificate that is void; none: all is well again. */
  readonly onMet: (gateways: readonly string[]) => void
}

/** The serial in the list's form: OpenSSL leaves out a leading zero byte. */
const normal = (serial: string): string => serial.toUpperCase().padStart(40, '0')

/**
 * Only certificates of the EMS's own CAs are ever asked about: no other opens a connection of the tunnel, and what a browser meets
 * (a certificate in files, or by ACME) is for its own CA to revoke.
 */
export function createRevocations({ list, onList, onMet }: RevocationOptions): Revocations {
  /** By gateway: the certificate that it was last met with and that is void. */
  const met = new Map<string, string>()
  const listeners = new Set<() => void>()
  let revoked = new Set(list())

  onList(() => {
    revoked = new Set(list())
    // It ended, or was taken off the list: the next connection tells.
    for (const [gateway, serial] of met) if (!revoked.has(serial)) met.delete(gateway)
    onMet([...met.keys()])
    for (const listener of listeners) listener()
  })

  return {
    refuses(gateway, certificateSerial) {
      const serial = normal(certificateSerial)
      const isVoid = revoked.has(serial)
      if (isVoid) met.set(gateway, serial)
      if (isVoid || met.delete(gateway)) onMet([...met.keys()])
      return isVoid
    },
    onChange(listener) {
      listeners.add(listener)
      return () => { listeners.delete(listener) }
    },
  }
}

/** Where nobody tells of any: every certificate holds until its end. */
export const noRevocations: Revocations = { refuses: () => false, onChange: () => () => undefined }

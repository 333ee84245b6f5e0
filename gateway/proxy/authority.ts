// Reads the host and port that a client names: in CONNECT, `:authority` and Host. Strict, because everything is decided by it.

export interface Authority { readonly host: string; readonly port: number }

const shape = /^(?:\[([0-9A-Fa-f:.]{2,45})\]|([A-Za-z0-9._-]{1,253}))(?::(\d{1,5}))?$/

/** @param defaultPort what stands for no port; null: a port must stand there (CONNECT, RFC 9110 §9.3.6). @returns null: it is no authority */
export function readAuthority(text: string | undefined, defaultPort: number | null): Authority | null {
  const match = shape.exec(text ?? '')
  const host = match?.[1] ?? match?.[2]
  const port = match?.[3] === undefined ? defaultPort : Number(match[3])
  return host === undefined || port === null || port < 1 || port > 65535 ? null : { host: host.toLowerCase(), port }
}

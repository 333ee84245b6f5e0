// What the tunnel needs of a log: one event with fields and a sentence. node/logging.ts fits it.

export interface TunnelLog {
  info(fields: { event: string } & Record<string, unknown>, sentence: string): void
  warn(fields: { event: string } & Record<string, unknown>, sentence: string): void
  error(fields: { event: string } & Record<string, unknown>, sentence: string): void
}

// The one place where Node programs read their environment and their command line.
import { parseArgs, type ParseArgsConfig } from 'node:util'

/** Environment variables that programs take. */
export const environment = {
  /** Origin of the EMS for the CLI. */
  ems: process.env.SALLYPORT_EMS,
  /** Administrator's token for the CLI. */
  token: process.env.SALLYPORT_TOKEN,
  /** PEM file of an additional TLS root. */
  tlsCa: process.env.SALLYPORT_TLS_CA,
  logLevel: process.env.SALLYPORT_LOG_LEVEL,
  stateDirectory: process.env.SALLYPORT_STATE,
  /** Where programs of this session show their windows, on Linux; absent on a machine without a screen. */
  display: process.env.WAYLAND_DISPLAY ?? process.env.DISPLAY,
}

/** Wrong usage: the program prints the sentence and exits with 2. */
export class UsageError extends Error {
  override readonly name = 'UsageError'
}

/** Parses a command line strictly; anything unknown is wrong usage. */
export function readArguments<T extends ParseArgsConfig['options']>(argv: string[], options: T) {
  try {
    return parseArgs({ args: argv, options, allowPositionals: true, strict: true })
  } catch (cause) {
    throw new UsageError(cause instanceof Error ? cause.message : String(cause))
  }
}

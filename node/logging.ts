// One JSON line per event, secrets redacted. Where lines go is the caller's choice; standard error unless said.
import { pino, type DestinationStream, type Logger } from 'pino'

export type Log = Logger

const secretNames = ['privateKey', 'privateKeyPem', 'key', 'token', 'adminToken', 'authorization', 'invitation', 'joinCode', 'code', 'secret', 'signature', 'certificate', 'certificatePem', 'document']

/** A decision's code, a fault, an error of the system, a websocket's close: not a code that joins or enrols. */
const isTelling = (code: unknown): boolean => typeof code === 'number' || (typeof code === 'string' && /^(\d{3}|[a-z_]{1,32}|[A-Z][A-Z0-9_]{1,40})$/.test(code))

/** A log of one program; each line has `event`, a kebab-case name, and a sentence. */
export function createLog(options: { name: string; level?: string; destination?: DestinationStream }): Log {
  return pino({
    name: options.name, level: options.level ?? 'info', timestamp: pino.stdTimeFunctions.isoTime, base: { name: options.name },
    redact: { paths: secretNames.flatMap((name) => [name, `*.${name}`]), censor: (value: unknown, path) => (path.at(-1) === 'code' && isTelling(value) ? value : '[redacted]') },
  }, options.destination ?? pino.destination({ dest: 2, sync: true }))
}

/** Discards everything: for programs that were told to be quiet. */
export const silentLog = (): Log => pino({ level: 'silent' })

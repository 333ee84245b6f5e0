// Reads the first key exchange of a session as both sides' clear text has it, and finds the host key in it (RFC 4253 §7 and §8, RFC 4419, RFC 5656). It says nothing itself.
import { WireReader } from '../../domain/access/ssh-wire.ts'
import { createClearText } from './clear-text.ts'

const KEXINIT = 20
/** DISCONNECT, IGNORE, UNIMPLEMENTED, DEBUG: allowed at any time. */
const isCommon = (type: number): boolean => type >= 1 && type <= 4
const GROUP = 31
/** A server that talks so long without showing its key is none. */
const MAX_PACKETS = 64
const MAX_BYTES = 262_144

/** The number of the message in which a server shows its key, by the method of exchange; null: it is none that is known here. */
function keyMessage(method: string): number | null {
  if (method.startsWith('diffie-hellman-group-exchange-sha')) return 33
  return /^(diffie-hellman-group\d+-sha|ecdh-sha2-|curve(25519|448)-sha|sntrup\d+x25519-sha512|mlkem\d+(x25519|nistp\d+)-sha)/.test(method) ? 31 : null
}

interface Proposal { readonly methods: readonly string[]; readonly guesses: boolean }

function readProposal(payload: Uint8Array): Proposal | null {
  const reader = new WireReader(payload)
  reader.bytes(17)
  const methods = reader.text().split(',')
  for (let list = 0; list < 9; list++) reader.string()
  const guesses = reader.byte() !== 0
  reader.uint32()
  return reader.isDone ? { methods, guesses } : null
}

/** How many strings a message holds, no more and no less; the first of them, null when they do not fill it. */
function onlyStrings(payload: Uint8Array, count: number): Uint8Array | null {
  const reader = new WireReader(payload.subarray(1))
  const [first = null] = Array.from({ length: count }, () => reader.string())
  return reader.isDone ? first : null
}

/** What of a piece may go on to the client. `shown`: the host showed this key, in what is `held`; no more is read. */
export type Progress =
  | { readonly state: 'reading'; readonly pass: readonly Buffer[] }
  | { readonly state: 'shown'; readonly pass: readonly Buffer[]; readonly key: Uint8Array; readonly held: Buffer }
  | { readonly state: 'unreadable'; readonly why: string }

/** Follows one session from its first byte. */
export function createKeyExchange() {
  const client = createClearText({ linesFirst: false })
  const server = createClearText({ linesFirst: true })
  let offered: Proposal | null = null
  let clientFails: string | null = null
  let answered: Proposal | null = null
  let [packets, bytes] = [0, 0]

  function hear(type: number, payload: Uint8Array): 'pass' | { readonly key: Uint8Array } | { readonly why: string } {
    if (isCommon(type)) return 'pass'
    if (answered === null) {
      answered = type === KEXINIT ? readProposal(payload) : null
      if (answered === null) return { why: 'it does not begin a key exchange' }
      // The client would skip the packet behind a wrong guess: a key that is listed could stand in it, and the one that counts behind.
      return answered.guesses ? { why: 'it guesses how keys are exchanged' } : 'pass'
    }
    const method = offered?.methods.find((name) => answered?.methods.includes(name) ?? false)
    const wanted = method === undefined ? null : keyMessage(method)
    if (wanted === null) return { why: clientFails ?? (offered === null ? 'it answers before it was asked' : `keys are exchanged by ${method ?? 'no method of both'}`) }
    // A prime that reads like a listed key must not be taken for one: which of the two message 31 holds, both sides' proposals say.
    if (wanted === 33 && type === GROUP) return onlyStrings(payload, 2) === null ? { why: 'its group can not be read' } : 'pass'
    const key = type === wanted ? onlyStrings(payload, 3) : null
    return key === null ? { why: `it says ${type} where it should show its key` } : { key }
  }

  return {
    /** What the client says; nothing of it is held. */
    fromClient(piece: Uint8Array): void {
      if (offered !== null || clientFails !== null) return
      client.put(piece)
      for (let said = client.next(); said !== null && offered === null && clientFails === null; said = client.next()) {
        if (said.kind === 'unreadable') clientFails = `the client is not understood: ${said.why}`
        else if (said.kind === 'packet' && said.payload[0] === KEXINIT) {
          offered = readProposal(said.payload)
          if (offered === null) clientFails = 'the client is not understood: its proposal can not be read'
        } else if (said.kind === 'packet' && !isCommon(said.payload[0] ?? 0)) clientFails = 'the client is not understood: it does not begin a key exchange'
      }
    },
    fromServer(piece: Uint8Array): Progress {
      if (clientFails !== null) return { state: 'unreadable', why: clientFails }
      server.put(piece)
      bytes += piece.length
      const pass: Buffer[] = []
      for (let said = server.next(); said !== null; said = server.next()) {
        if (said.kind === 'unreadable') return { state: 'unreadable', why: said.why }
        if (said.kind === 'packet') {
          const heard = ++packets > MAX_PACKETS ? { why: 'it says too much before it shows its key' } : hear(said.payload[0] ?? 0, said.payload)
          if (heard !== 'pass') return 'why' in heard ? { state: 'unreadable', why: heard.why } : { state: 'shown', pass, key: heard.key, held: Buffer.concat([said.raw, server.rest()]) }
        }
        pass.push(said.raw)
      }
      return bytes - server.heldBytes > MAX_BYTES ? { state: 'unreadable', why: 'it says too much before it shows its key' } : { state: 'reading', pass }
    },
    /** Ends it, once. */
    close(): void {
      client.close()
      server.close()
    },
    get heldBytes() {
      return client.heldBytes + server.heldBytes
    },
  }
}
export type KeyExchange = ReturnType<typeof createKeyExchange>

// Load from prepared requests over kept connections: signing is done before the clock runs, so that it is the EMS that is timed.
import { Pool } from 'undici'
import { utf8 } from '../identity/encoding.ts'
import { signRequest } from '../identity/request-signature.ts'
import type { Operation } from '../protocol/operation.ts'
import type { Device } from './device.ts'
import type { LocalEms } from '../start/ems.ts'

export interface Prepared {
  readonly method: Operation['method']
  readonly path: string
  readonly headers: Record<string, string>
  readonly body: string | null
  /** The same, signed anew. */
  readonly again?: () => Promise<Prepared>
}
/** How often one request is sent again that was taken while a gateway had not yet acknowledged it. */
const TRIES = 20

export interface Load {
  /** Runs the lanes side by side, each one request after the other. @returns requests a second; throws when one is not answered by 200, be it sent again as the EMS asks */
  run(lanes: readonly (readonly Prepared[])[]): Promise<number>
  close(): Promise<void>
}

/** Signs a request now; it is good for a minute. */
export async function prepare(ems: LocalEms, operation: Operation, device: Device, body: unknown): Promise<Prepared> {
  const [{ address }, { method, path }, { credentials }] = [ems, operation, device]
  const text = JSON.stringify(body)
  const { certificateDer, privateKey } = credentials
  const signature = await signRequest({ method, url: `${address}${path}`, body: utf8(text), certificateDer, privateKey, now: Date.now() })
  return { method, path, headers: { 'content-type': 'application/json', ...signature }, body: text, again: () => prepare(ems, operation, device, body) }
}

/** Opens a load of that many connections. */
export function openLoad({ address, tlsCaPem }: LocalEms, connections: number): Load {
  const pool = new Pool(address, { connections, pipelining: 1, connect: { ca: tlsCaPem } })
  const ask = async (request: Prepared) => {
    let asked = request
    for (let tries = 0; ; tries++) {
      const { method, path, headers, body: sent } = asked
      const { statusCode, body } = await pool.request({ method, path, headers, body: sent })
      const text = await body.text()
      if (statusCode === 200) return
      if (statusCode !== 503 || asked.again === undefined || tries === TRIES) throw new Error(`${path} was answered by ${statusCode}: ${text}`)
      asked = await asked.again()
    }
  }
  return {
    async run(lanes) {
      const begun = performance.now()
      await Promise.all(lanes.map(async (lane) => {
        for (const request of lane) await ask(request)
      }))
      return lanes.reduce((total, { length }) => total + length, 0) / ((performance.now() - begun) / 1_000)
    },
    close: () => pool.close(),
  }
}

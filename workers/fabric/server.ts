// What the EMS says of itself on the fabric wire.
import { capabilities, downloadAuthorities, fabricId, publicAddress, revocationList, serialNumber, version, websocketPort } from '../../protocol/operations/fabric.ts'
import { toPem } from '../../identity/encoding.ts'
import { Fault } from '../../protocol/faults.ts'
import type { Context } from '../context.ts'
import { authorityRows, emsIdentity } from '../flows/authority.ts'
import { LOOKED_WITHIN_MS, revocationLists } from '../flows/revocation-lists.ts'
import { handle, type Route } from '../http/mount.ts'

export const ok = { retval: 1 as const }
export const VERSION = { version: '0.1.0', major: '0', minor: '1', patch: '0', build: '0' }
const address = ({ origin }: Pick<Context, 'origin'>) => {
  const url = new URL(origin)
  return { host: url.hostname, port: Number(url.port || 443) }
}

export const serverRoutes: readonly Route[] = [
  handle(capabilities, { run: () => Promise.resolve({ result: ok, data: { capabilities: { silent_fortigate_auth: false, fabric_approval_support: true, websocket: true, websocket_malware_notif: false } } }) }),
  handle(serialNumber, { run: async (context) => ({ result: ok, data: { sn: (await emsIdentity(context)).serial } }) }),
  handle(fabricId, {
    async run(context) {
      const { fabricId: id, serial } = await emsIdentity(context)
      return { result: ok, data: { tenant_id: id, serial_number: serial } }
    },
  }),
  handle(version, { run: () => Promise.resolve({ result: ok, data: VERSION }) }),
  handle(publicAddress, {
    run(context) {
      const { host, port } = address(context)
      return Promise.resolve({ result: ok, data: { public_address: host, public_port: port, public_public: port } })
    },
  }),
  handle(websocketPort, { run: (context) => Promise.resolve({ result: ok, data: { websocket_port: address(context).port } }) }),
  handle(downloadAuthorities, { run: async (context) => (await authorityRows(context)).map(({ certificatePem }) => certificatePem).join('') }),
  handle(revocationList, {
    async run(context, { query: { format, authority: pin } }) {
      const lists = await revocationLists(context)
      const wanted = pin === undefined ? lists : lists.filter((list) => list.pin === pin)
      const [first] = wanted
      if (first === undefined) throw new Fault('not_found', 'This EMS has no CA with that pin.')
      const headers = { 'cache-control': `public, max-age=${LOOKED_WITHIN_MS / 1000}`, 'x-content-type-options': 'nosniff' }
      return format === 'pem'
        ? new Response(wanted.map(({ der }) => toPem('X509 CRL', der)).join(''), { headers: { ...headers, 'content-type': 'application/x-pem-file' } })
        : new Response(first.der, { headers: { ...headers, 'content-type': 'application/pkix-crl' } })
    },
  }),
]

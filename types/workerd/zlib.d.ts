// What workerd's nodejs_compat gives us of node:zlib; the whole of Node's types would hide what workerd lacks.
declare module 'node:zlib' {
  export function deflateRawSync(data: string | Uint8Array): Uint8Array
  export function inflateRawSync(data: Uint8Array): Uint8Array
}

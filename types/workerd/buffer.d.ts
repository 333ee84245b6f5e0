// What workerd's nodejs_compat gives us of node:buffer; the whole of Node's types would hide what workerd lacks.
declare module 'node:buffer' {
  export const Buffer: { from(digits: string, encoding: 'hex'): Uint8Array<ArrayBuffer> }
}

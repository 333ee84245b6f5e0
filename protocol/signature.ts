// What a signed request says (RFC 9421). The algorithm, the components and the limits, once for both ends.
/** Header with the caller's certificate: an RFC 9651 byte sequence of its DER. Not `Client-Cert`: zones strip that (RFC 9440). */
export const CERTIFICATE_HEADER = 'sallyport-certificate'
/** Header with the caller's bare public key (SPKI DER), only on joining, when there is no certificate yet. */
export const KEY_HEADER = 'sallyport-key'
export const SIGNED_COMPONENTS = ['@method', '@authority', '@path', '@query', 'content-digest', CERTIFICATE_HEADER] as const
export const SIGNATURE_ALGORITHM = 'ecdsa-p256-sha256'
export const SIGNATURE_TAG = 'sallyport'
/** How far `created` may lie from the EMS clock, either way. */
export const MAX_SKEW_SECONDS = 60
/** Signature headers and certificate together; larger is refused before anything is parsed. */
export const MAX_SIGNATURE_HEADER_BYTES = 8192
/** Prefix of what is signed to open a socket: the 32 random bytes follow, in hex, then the purpose. */
export const SOCKET_CHALLENGE_CONTEXT = 'sallyport-socket-v1'

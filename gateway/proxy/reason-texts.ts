// Each reason in words: what happened, how it is mended, and the error type that machines read (RFC 9209). Codes stand in the protocol.
import type { Reason } from '../../protocol/decisions.ts'

interface ReasonText { readonly sentence: string; readonly mend: string; readonly error: string; readonly status: number }

const ENROL = 'Have this device enrolled, or let the agent renew its certificate.'
const SELECT = 'Choose the certificate that the agent installed, or let the agent install it again.'
const EXPLAIN = 'The agent explains which check fails and how it is mended; then try again.'
const SIGN_IN = 'Sign in: run "agent sign-in" on this device; then try again.'
const ASK = 'Ask your administrator, and quote the decision.'
const WAIT = 'Try again in a moment; if that does not help, ask your administrator.'

const denied = (sentence: string, mend: string): ReasonText => ({ sentence, mend, error: 'http_request_denied', status: 403 })

export const reasonTexts: Readonly<Record<Reason, ReasonText>> = {
  'allowed': denied('Access is allowed.', ''),
  'no-certificate': denied('This device showed no certificate.', SELECT),
  'no-certificate-manageable': denied('This device showed no certificate, although its kind can be managed.', ENROL),
  'certificate-invalid': denied('The certificate of this device was not issued by this organisation.', SELECT),
  'certificate-expired': denied('The certificate of this device has expired.', ENROL),
  'certificate-wrong-purpose': denied('This certificate is not for this use.', SELECT),
  'certificate-revoked': denied('This certificate is not among the valid ones of the device.', ENROL),
  'certificate-unknown': denied('The gateway does not know this certificate.', WAIT),
  'endpoint-unknown': denied('The gateway does not know this device.', WAIT),
  'endpoint-deregistered': denied('This device is no longer managed.', ENROL),
  'endpoint-quarantined': denied('This device is in quarantine.', ASK),
  'service-unknown': { ...denied('No service is declared for this destination.', ASK), error: 'destination_not_found' },
  'path-ambiguous': { ...denied('The path can be read in two ways that lead to different services.', 'Use the address without dots, doubled slashes or encoded letters.'), error: 'http_request_error', status: 400 },
  'portal-error': { ...denied('The gateway itself has no such page.', ASK), error: 'destination_not_found', status: 404 },
  'address-refused': { ...denied('The destination leads to an address that this gateway does not open.', ASK), error: 'destination_ip_prohibited' },
  'name-not-resolved': { ...denied('The name of the destination could not be resolved.', WAIT), error: 'dns_error', status: 502 },
  'upstream-unreachable': { ...denied('The destination could not be reached.', WAIT), error: 'destination_unavailable', status: 502 },
  'ssh-host-key': { ...denied('The host showed another key than it should have: it may be somebody else.', ASK), error: 'destination_unavailable', status: 502 },
  'no-policy-matched': denied('No policy allows this access.', ASK),
  'denied-by-policy': denied('A policy denies this access.', ASK),
  'denied-by-tag': denied('A tag of this device forbids this access.', EXPLAIN),
  'tag-missing': denied('This device lacks a tag that this access needs.', EXPLAIN),
  'tag-unknown': denied('It is not known whether this device meets the conditions of this access.', EXPLAIN),
  'ownership-unknown': denied('It is not known whose device this is.', ASK),
  'ownership-mismatch': denied('This access is not for devices of this ownership.', ASK),
  'country-unknown': denied('It is not known from which country this device connects.', ASK),
  'country-mismatch': denied('This access is not open from where this device connects.', 'Try again from another network, or ask your administrator and quote the decision.'),
  'user-unverified': denied('It is not known who uses this device: nobody has signed in, or too long ago, or the identity provider does not tell what this access asks for.', SIGN_IN),
  'user-mismatch': denied('This access is not for the user who is signed in on this device.', ASK),
  'fabric-mismatch': denied('This access depends on whether the device is on the fabric.', 'Try again from another network.'),
  'outside-schedule': denied('This access is not open at this time.', ASK),
  'deadline-passed': denied('The time of this access is over.', ASK),
  'endpoint-offline': denied('This device is not connected to the management server.', 'Check that the agent runs and is connected; then try again.'),
  'snapshot-missing': { ...denied('The gateway has not yet heard from the management server.', WAIT), error: 'proxy_internal_error' },
  'snapshot-stale': { ...denied('The gateway has not heard from the management server for too long.', WAIT), error: 'proxy_internal_error' },
  'gateway-stopping': { ...denied('The gateway is being stopped.', WAIT), error: 'proxy_internal_response', status: 503 },
  'overloaded': { ...denied('The gateway has no room for another session.', WAIT), error: 'connection_limit_reached', status: 503 },
}

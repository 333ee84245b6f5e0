// Why gateways decide as they do, said to administrators: what it means, and what mends it.
import type { Reason } from '../protocol/decisions.ts'

interface ReasonText { readonly means: string; readonly mend: string | null }

const texts = {
  'allowed': { means: 'a policy allows it', mend: null },
  'no-certificate': { means: 'no certificate was shown', mend: 'Enrol the device, or let its browser present the certificate of this EMS.' },
  'no-certificate-manageable': { means: 'no certificate was shown, by a device that could be managed', mend: 'Enrol it: cli invitations create.' },
  'certificate-invalid': { means: 'the certificate is not from a CA of this EMS', mend: 'Enrol the device with this EMS.' },
  'certificate-expired': { means: 'the certificate has ended', mend: 'Start the agent: it renews its certificate up to 30 days after its end.' },
  'certificate-wrong-purpose': { means: 'the certificate is for another use: a browser\'s opens HTTPS services only', mend: 'Reach this service through the agent\'s proxy.' },
  'certificate-revoked': { means: 'the certificate is not among the valid ones of the endpoint', mend: 'If the device should be let in, enrol it anew.' },
  'certificate-unknown': { means: 'the gateway could not learn of this certificate', mend: 'See that the gateway is connected: cli gateways list.' },
  'endpoint-unknown': { means: 'the gateway does not know the endpoint', mend: 'See what the gateway may see: cli gateways list, cli gateways entitle.' },
  'endpoint-deregistered': { means: 'the endpoint is no longer managed', mend: 'If it should be, enrol it anew: cli invitations create.' },
  'endpoint-quarantined': { means: 'the endpoint is in quarantine', mend: 'Release it when it is clean.' },
  'service-unknown': { means: 'no service is declared for this destination', mend: 'Declare it in the policy file of the gateway.' },
  'path-ambiguous': { means: 'the path of the request can be read in two ways, and policies may differ for them', mend: 'Ask for the path in its plain form.' },
  'address-refused': { means: 'the name leads to an address that gateways do not open unless the service lists it', mend: 'List the address under addresses of the service, if it is right.' },
  'name-not-resolved': { means: 'the name could not be resolved by the gateway', mend: 'Look at the DNS of the gateway\'s host.' },
  'upstream-unreachable': { means: 'the destination did not answer the gateway', mend: 'Look at the service itself, and the way from the gateway to it.' },
  'ssh-host-key': { means: 'the host showed no SSH key that the service lists under hostKeys', mend: 'Find out why before anything else: it may be an impostor. If the host has a new key, put that into the policy file; the gateway\'s log has what it showed.' },
  'portal-error': { means: 'the gateway has no such page of its own, or gives no SSH certificates for that destination', mend: 'See the address; for SSH, give the service an ssh part in the policy file of the gateway.' },
  'no-policy-matched': { means: 'no policy of the gateway matches', mend: 'Add a policy for this service to the policy file of the gateway.' },
  'fabric-mismatch': { means: 'the policy is for devices on the other side: on-fabric or off-fabric', mend: 'See where the EMS says the endpoint is: cli endpoints show UID.' },
  'ownership-mismatch': { means: 'the policy is for devices of another ownership', mend: 'If that is entered wrongly: cli endpoints set-ownership.' },
  'ownership-unknown': { means: 'it is not known whose device it is, and the policy asks', mend: 'Say it: cli endpoints set-ownership corporate UID.' },
  'country-mismatch': { means: 'the policy is not for the country that the device connects from', mend: 'The decision has the address and its country; private addresses are of none.' },
  'user-mismatch': { means: 'the policy is for other users or groups than the user who is signed in on the device', mend: 'The decision says who is, and the policy who may; what the identity provider tells of them, groups too: cli endpoints show UID.' },
  'user-unverified': { means: 'no identity provider vouches now for the user of the device, or it does not tell what the policy asks for: nobody has signed in, or too long ago', mend: 'Let the user sign in there: agent sign-in.' },
  'country-unknown': { means: 'it is not known from which country the device connects, and the policy asks', mend: 'See whether the gateway can read geo.databaseFile of its policies: gateway check FILE.' },
  'outside-schedule': { means: 'the policy does not hold at this time', mend: 'Come back when it does, or change its schedule.' },
  'denied-by-policy': { means: 'a policy denies it', mend: 'Policies are ordered: the first that matches decides.' },
  'denied-by-tag': { means: 'a tag that the policy excludes is present', mend: 'Mend on the device what the tag stands for; see below.' },
  'tag-missing': { means: 'a tag that the policy asks for is absent', mend: 'Mend on the device what the tag asks for; see below.' },
  'tag-unknown': { means: 'it is not known whether the endpoint has a tag that decides', mend: 'What is not known stands below, with its mend; what has not been reported: cli endpoints check UID.' },
  'snapshot-missing': { means: 'the gateway has not heard from the EMS yet', mend: 'See that it is authorised and connected: cli gateways list.' },
  'snapshot-stale': { means: 'the gateway has not heard from the EMS for longer than the service allows', mend: 'See that it is connected: cli gateways list.' },
  'endpoint-offline': { means: 'the agent has no open channel to the EMS, and the service asks for one', mend: 'Start the agent, or see why it does not reach the EMS.' },
  'deadline-passed': { means: 'the session\'s time was over', mend: 'Connect again: it is decided anew.' },
  'overloaded': { means: 'the gateway has no room for another session', mend: 'Add a gateway, or raise its limits.' },
  'gateway-stopping': { means: 'the gateway was being stopped', mend: 'Connect again: another gateway, or this one when it is back, decides anew.' },
}

/** Reason → its meaning and what to do; nothing to do where it is as it should be. */
export const reasonTexts: Readonly<Record<Reason, ReasonText>> = texts

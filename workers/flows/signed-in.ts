// Whether anybody is signed in on an endpoint: its row says so. The section may still name somebody whose provider was removed a moment ago.
import type { Facts } from '../../protocol/facts.ts'
import type { EndpointRow } from '../../schema/endpoint.ts'

/** The facts without a user whose sign-in was ended. One whose time is over stays: who was it, and since when, is told. */
export function withoutEnded({ identityBy }: Pick<EndpointRow, 'identityBy'>, facts: Facts): Facts {
  if (identityBy !== null || facts.identity === undefined) return facts
  const { identity: _, ...others } = facts
  return others
}

// Which endpoint policy an endpoint gets: the first enabled one, by position, whose groups name the endpoint's or are empty. And which of its profiles.
import type { EndpointPolicy } from '../../protocol/profile.ts'

export function resolvePolicy(policies: readonly EndpointPolicy[], endpoint: { group: string }): EndpointPolicy | null {
  return policies
    .filter(({ enabled, groups }) => enabled && (groups.length === 0 || groups.includes(endpoint.group)))
    .sort((a, b) => a.position - b.position || (a.id < b.id ? -1 : 1))[0] ?? null
}

/** By where it is: whoever is not known to be on the fabric is off it. */
export const profileOf = ({ profileId, offFabricProfileId }: EndpointPolicy, onFabric: boolean): string => (onFabric ? profileId : offFabricProfileId ?? profileId)

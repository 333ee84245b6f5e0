// What an entitlement means: whose subscriptions bound a gateway's sight, and whose sights bring addresses into its lists. Pure.

type Entitled = { readonly shareMode: number; readonly serial: string; readonly selectedSerials: string }

/** Gateways whose subscriptions bound what it sees; null: it sees all. */
export const ownersOf = ({ shareMode, serial, selectedSerials }: Entitled): readonly string[] | null => (shareMode === 1 ? null : shareMode === 0 ? [serial] : JSON.parse(selectedSerials) as string[])
/** Gateways whose sights count for it, itself always among them; null: everybody's. */
export const trustsOf = (gateway: Entitled): readonly string[] | null => {
  const owners = ownersOf(gateway)
  return owners === null ? null : [...new Set([gateway.serial, ...owners])]
}

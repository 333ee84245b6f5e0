// Where an endpoint comes to stand to the fabric: its row, the section that says why, and its facts with it. It writes nothing.
import canonicalize from 'canonicalize'
import { fabricAt, left, type Fabric } from '../../domain/policy/on-fabric.ts'
import { utf8 } from '../../identity/encoding.ts'
import { sha256Hex } from '../../identity/keys.ts'
import type { Facts } from '../../protocol/facts.ts'
import type { EndpointRow } from '../../schema/endpoint.ts'
import type { ComputedEndpoint } from '../../schema/queries/guarded-many.ts'
import { packSection } from './facts.ts'

export interface Moved { readonly fabric: NonNullable<ComputedEndpoint['fabric']>; readonly facts: Facts }

/** @param was whether its row says that it is on the fabric @param by the gateway that sees it; null: none does */
export async function moveFabric(was: boolean, facts: Facts, fabric: Fabric, by: string | null, now: number): Promise<Moved> {
  const [canonical, on] = [canonicalize(fabric) ?? '', fabricAt(fabric, now).on === true]
  return {
    fabric: { on, by, until: fabric.heldUntil ?? null, moved: on !== was, at: now, section: { section: 'fabric', hash: await sha256Hex(utf8(canonical)), at: now, body: packSection(canonical) } },
    facts: { ...facts, fabric: { value: fabric, at: now, provenance: 'proved' } },
  }
}

/** Its time on the fabric is over; null: it is not. Where its section says so by itself, that stays as it is. */
export async function leaveFabric({ onFabric, fabricUntil }: Pick<EndpointRow, 'onFabric' | 'fabricUntil'>, facts: Facts, now: number): Promise<Moved | null> {
  if (fabricUntil === null || fabricUntil > now) return null
  const known = facts.fabric?.value
  if (known !== undefined && fabricAt(known, now).on !== true) return { fabric: { on: false, by: null, until: null, moved: onFabric, at: now, section: null }, facts }
  return await moveFabric(onFabric, facts, left(known?.checkedBy ?? 'no gateway', now), null, now)
}

// An antivirus product is installed, and as far as asked it runs and its signatures are fresh: one and the same product must answer all of it.
import { z } from 'zod'
import type { Fact, Sections } from '../../../protocol/facts.ts'
import { line } from '../../../protocol/text.ts'
import { folded } from '../../user/folded.ts'
import { conditionType } from '../condition-type.ts'
import { ageOf } from '../freshness.ts'
import { all, any, type Timed } from '../logic.ts'

const schema = z.strictObject({
  /** Only this product; compared without case, as a prefix. */
  product: line(128).optional(),
  running: z.literal(true).optional(),
  signaturesNotOlderThanSeconds: z.number().int().min(60).max(31_536_000).optional(),
})
type Params = z.infer<typeof schema>
type Product = Sections['antivirus']['products'][number]

function truthOf(product: Product, { running, signaturesNotOlderThanSeconds: seconds }: Params, fact: Fact, now: number): Timed {
  const runs: Timed = { value: product.running === 'on' ? 'true' : product.running === 'off' ? 'false' : 'unknown', validUntil: null }
  const { ends } = seconds === undefined || product.signaturesAt === undefined ? { ends: null } : ageOf(product.signaturesAt, fact.at, seconds * 1000, now)
  const fresh: Timed = { value: product.signaturesAt === undefined ? 'unknown' : ends === null ? 'false' : 'true', validUntil: ends }
  return all([...(running === true ? [runs] : []), ...(seconds === undefined ? [] : [fresh])])
}

function say({ name, running, signaturesAt }: Product): string {
  const state = running === 'on' ? 'running' : running === 'off' ? 'not running' : 'installed'
  return `${name} (${state}, signatures ${signaturesAt === undefined ? 'of unknown date' : `of ${new Date(signaturesAt).toISOString().slice(0, 10)}`})`
}
const wantedOf = ({ product, running, signaturesNotOlderThanSeconds: seconds }: Params): string =>
  `${product ?? 'an antivirus product'} is installed${running === true ? ' and runs' : ''}${seconds === undefined ? '' : `, with signatures not older than ${seconds} s`}`

export const antivirus = conditionType<Params>({
  type: 'antivirus', schema, os: ['linux', 'windows', 'macos'], side: 'ems', section: 'antivirus',
  evaluate(params, fact, { now }) {
    const { products } = fact.value as Sections['antivirus']
    const asked = products.filter(({ name }) => params.product === undefined || folded(name).startsWith(folded(params.product)))
    const { value, validUntil } = any(asked.map((product) => truthOf(product, params, fact, now)))
    return { value, validUntil, seen: products.length === 0 ? 'none installed' : products.slice(0, 3).map(say).join(', ').slice(0, 400) }
  },
  wanted: wantedOf,
  mend: (params, negate) => (negate ? `Nothing to mend: this marks devices where ${wantedOf(params)}.` : `Install ${params.product ?? 'an antivirus product'}${params.running === true ? ', switch its real-time protection on' : ''}${params.signaturesNotOlderThanSeconds === undefined ? '' : ', update its signatures'}.`),
})

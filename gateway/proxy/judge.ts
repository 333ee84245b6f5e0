// Takes decisions for the proxy: asks about unknown devices, decides, and takes each decision down. It touches no socket.
import { decide, type AccessRequest, type Verdict } from '../../domain/access/decide.ts'
import type { Origin } from '../../domain/access/geo.ts'
import { hasExpired } from '../../domain/user/user-condition.ts'
import { reasons, type Decision, type Reason } from '../../protocol/decisions.ts'
import type { Audit } from '../audit/audit.ts'
import { newDecisionId } from '../audit/decision-id.ts'
import type { Metrics } from '../metrics/metrics.ts'
import type { World } from '../world.ts'
import type { PolicyStore } from './policy-store.ts'
import type { Carried } from './sessions.ts'

/** What is asked, by whom and from where. `host`, `port` and `path` as the client named them. */
export interface Question extends Pick<AccessRequest, 'protocol' | 'host' | 'port' | 'path' | 'userAgent' | 'certificate'> { readonly source: string }

interface JudgeOptions { readonly world: World; readonly policies: PolicyStore; readonly serial: string; readonly audit: Audit; readonly metrics: Metrics; readonly now: () => number }

const worthAsking = new Set<Reason>(['endpoint-unknown', 'certificate-unknown', 'snapshot-missing'])
/** As it is written down: e-mail, or where none is told the subject. Whoever has expired is nobody. */
const userOf = ({ user }: Verdict, now: number): Decision['user'] => (user === null || hasExpired(user, now) ? undefined : { name: user.email ?? user.subject, issuer: user.issuer })
const printable = (text: string): string => text.replaceAll(/[^\x21-\x7e]/g, '?').slice(0, 290)

/** The judge of one gateway. */
export function createJudge({ world, policies, serial, audit, metrics, now }: JudgeOptions) {
  const originOf = ({ source }: Question): Origin => (policies.current().geo.asked ? policies.originOf(source) : 'unknown')
  const assess = (question: Question, event: AccessRequest['event'], asked: boolean): Verdict =>
    decide({ snapshot: world.snapshot(), policies: policies.current(), request: { ...question, origin: originOf(question), event, asked }, now: now() })

  /** Takes a decision down: log, counters. `reason` overrides an allowing verdict that came to nothing. */
  function record(question: Question, verdict: Verdict, { event = 'decide', reason, session = null, user = userOf(verdict, now()) }: { event?: Decision['event']; reason?: Reason; session?: string | null; user?: Decision['user'] } = {}): Decision {
    const { currentAt, revision } = world.snapshot()
    const at = now()
    const told = reason ?? verdict.reason
    const origin = originOf(question)
    const decision: Decision = {
      id: newDecisionId(serial), at, gateway: serial, allowed: told === 'allowed', reason: told, code: reasons[told], event,
      uid: verdict.uid, certificateSerial: question.certificate.status === 'proved' ? question.certificate.serial : null,
      ...(user === undefined ? {} : { user }),
      protocol: question.protocol, service: verdict.service?.name ?? null, destination: `${printable(question.host)}:${question.port}`,
      policy: verdict.policy, tags: verdict.tags.map((tag) => ({ ...tag })), revision, snapshotAgeMs: currentAt === null ? null : Math.max(0, Math.round(at - currentAt)),
      source: question.source, ...(origin === 'unknown' || origin === 'nowhere' ? {} : { country: origin }), validUntil: verdict.validUntil, session,
      ...(verdict.shadow === null ? {} : { shadow: { ...verdict.shadow, code: reasons[verdict.shadow.reason] } }),
    }
    audit.record(decision)
    metrics.decided(told, event)
    return decision
  }

  return {
    snapshot: () => world.snapshot(),
    /** Decides for a new session; asks the EMS first when the device or its certificate is not known here. */
    async assess(question: Question): Promise<Verdict> {
      const first = assess(question, 'decide', false)
      if (first.uid === null || !worthAsking.has(first.reason)) return first
      // Without an answer it stays unknown: that is not the same as revoked.
      return assess(question, 'decide', await world.lookup(first.uid))
    },
    /** Decides again at once: before a session opens (the world may have moved while it was dialled), or while it is open. */
    again: (question: Question, event: AccessRequest['event']): Verdict => assess(question, event, true),
    /** Refuses what no policy has a say in. */
    refuse: (question: Question, reason: Reason): Decision => record(question, { allowed: false, reason, uid: null, user: null, service: null, policy: null, tags: [], validUntil: null, shadow: null }),
    /** Takes down that an open session ends for a reason of the gateway's own. */
    stop: (question: Question, { id, uid, user, protocol, service, policy }: Decision, reason: Reason): Decision =>
      record(question, { allowed: false, reason, uid, user: null, service: policies.current().services.find((each) => each.name === service && each.protocol === protocol) ?? null, policy, tags: [], validUntil: null, shadow: null }, { event: 'recheck', session: id, user }),
    record,
    /** Takes down that a session has ended, by itself or by a decision. */
    ended({ id, at, gateway, uid, protocol, service, destination, source }: Decision, { up, down, datagrams }: Carried, cutBy: Decision | null): void {
      const ended = now()
      audit.ended({ event: 'end', session: id, cutBy: cutBy?.id ?? null, at: ended, gateway, uid, protocol, service, destination, source, durationMs: Math.max(0, Math.round(ended - at)), bytesUp: up, bytesDown: down, ...(datagrams === undefined ? {} : { datagrams }) })
    },
  }
}
export type Judge = ReturnType<typeof createJudge>

// One session's host key check: when the host shows its key, and again whenever the list that it stands in is another one.
import type { Service } from '../../domain/access/service.ts'
import type { HostKeys } from '../../domain/access/ssh-service.ts'
import type { Reason } from '../../protocol/decisions.ts'
import { strangeHostKey } from './host-key.ts'
import type { JudgeHostKey } from './screen-host.ts'

export interface HostCheck {
  /** null: the service lists no keys. */
  readonly judgeHostKey: JudgeHostKey | null
  /** Why the session may not go on behind the service as it stands now; null: it may. */
  readonly strays: (service: Service | null) => Reason | null
}

const listOf = (service: Service | null): HostKeys | null => service?.ssh?.hostKeys ?? null

/** One for all that are not looked at, which most are: a host is unknown from the moment that keys are listed for it. */
const unlooked: HostCheck = { judgeHostKey: null, strays: (service) => (listOf(service) === null ? null : 'ssh-host-key') }

/** @param host the name under which the client asked for it; @param now ms */
export function createHostCheck(service: Service, host: string, now: () => number): HostCheck {
  let hostKeys = listOf(service)
  if (hostKeys === null) return unlooked
  let shown: { readonly key: Uint8Array; readonly at: number } | null = null
  const judge = (key: Uint8Array, at: number) => (hostKeys === null ? null : strangeHostKey(key, { hostKeys, host, now: at }))
  return {
    judgeHostKey(key) {
      const at = now()
      // A copy of its own: Node's small buffers hold a page of others' for as long as the session lasts.
      shown = { key: new Uint8Array(key), at }
      return judge(key, at)
    },
    strays(service) {
      const before = hostKeys
      hostKeys = listOf(service)
      // By the time at which it was shown: the end of a host's certificate ends no session.
      return hostKeys === before || shown === null || judge(shown.key, shown.at) === null ? null : 'ssh-host-key'
    },
  }
}

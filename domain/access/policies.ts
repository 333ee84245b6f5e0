// Services and policies in the form that decisions are taken from. It is replaced whole on reload.
import { compileNoCertificate, type NoCertificate } from './no-certificate.ts'
import { compilePolicy } from './policy.ts'
import type { PolicyFile } from './policy-file.ts'
import { indexPolicies, type ServicePolicies } from './policy-index.ts'
import { compileService, type Service } from './service.ts'
import { indexServices, type ServiceIndex } from './service-index.ts'

export interface Policies {
  readonly services: readonly Service[]
  readonly index: ServiceIndex
  /** Service name → its policies. */
  readonly byService: ReadonlyMap<string, ServicePolicies>
  readonly noCertificate: NoCertificate
  readonly listener: PolicyFile['listener']
}

/** Makes the indexes of a file that the schema has accepted. */
export function compilePolicies(file: PolicyFile): Policies {
  const services = file.services.map(compileService)
  const byService = new Map(services.map(({ name }) => [name, [] as ReturnType<typeof compilePolicy>[]]))
  for (const each of file.policies) {
    if (!each.enabled) continue
    const policy = compilePolicy(each)
    for (const name of new Set(each.services)) byService.get(name)?.push(policy)
  }
  return {
    services, index: indexServices(services), byService: new Map([...byService].map(([name, those]) => [name, indexPolicies(those)])),
    noCertificate: compileNoCertificate(file.noCertificate), listener: file.listener,
  }
}

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
  /** Where countries are looked up, null: nowhere; `asked`: whether a policy names any. */
  readonly geo: { readonly databaseFile: string | null; readonly asked: boolean }
}

function compileListener({ certificates, acme, ...rest }: PolicyFile['listener'], fileAt: (name: string) => string): PolicyFile['listener'] {
  return {
    ...rest, certificates: certificates.map(({ certificateFile, keyFile }) => ({ certificateFile: fileAt(certificateFile), keyFile: fileAt(keyFile) })),
    ...(acme === undefined ? {} : { acme: { ...acme, ...(acme.caFile === undefined ? {} : { caFile: fileAt(acme.caFile) }) } }),
  }
}

/** Makes the indexes of a file that the schema has accepted. @param fileAt the whole path of a file that it names */
export function compilePolicies(file: PolicyFile, fileAt: (name: string) => string): Policies {
  const services = file.services.flatMap((service) => compileService(service, fileAt))
  const byService = new Map(services.map(({ name }) => [name, [] as ReturnType<typeof compilePolicy>[]]))
  for (const each of file.policies) {
    if (!each.enabled) continue
    const policy = compilePolicy(each)
    for (const name of new Set(each.services)) byService.get(name)?.push(policy)
  }
  return {
    services, index: indexServices(services), byService: new Map([...byService].map(([name, those]) => [name, indexPolicies(those)])),
    noCertificate: compileNoCertificate(file.noCertificate), listener: compileListener(file.listener, fileAt),
    geo: { databaseFile: file.geo.databaseFile === undefined ? null : fileAt(file.geo.databaseFile), asked: file.policies.some(({ enabled, geo }) => enabled && geo !== undefined) },
  }
}

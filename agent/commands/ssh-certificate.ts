// `agent ssh-certificate`: keeps a certificate for a host, for plain ssh; `agent ssh-config` has ssh call it.
import { authorityOf } from '../tunnel/target.ts'
import { whyNone } from '../ssh/certificate.ts'
import { readTarget } from '../ssh/destination.ts'
import { keepCertificate, keptDirectory, keptFiles } from '../ssh/kept.ts'
import { ask } from './ask.ts'
import { show, type Perform } from './verb.ts'

export const perform: Perform = async (call) => {
  const { words, values, directory, print } = call
  const target = readTarget(words, true)
  const kept = await keepCertificate((question) => ask(directory, question), target, { directory: keptDirectory(), now: Date.now() })
  const { certificate } = keptFiles(keptDirectory(), target)
  if (values.match === true) {
    // ssh asks for every host: only of ours is anything said, and whatever it is, the way there leads through the gateway.
    if (kept.outcome === 'refused' || kept.outcome === 'unreachable') print.err(whyNone(kept, target) ?? '')
    return kept.outcome === 'unprotected' ? 1 : 0
  }
  if (kept.outcome === 'fresh' || kept.outcome === 'issued') {
    show(call, { certificate, renewed: kept.outcome === 'issued' }, `${certificate} is good for ${authorityOf(target)}${kept.outcome === 'issued' ? '; it was just issued' : ''}.`)
    return 0
  }
  print.err(whyNone(kept, target) ?? '')
  return 1
}

// `agent sign-in`: an identity provider vouches for the person at this machine, in their browser.
import { systemTimers } from '../../node/timers.ts'
import { describeSignIn } from '../print.ts'
import { openBrowser } from '../sign-in/open-browser.ts'
import { signIn } from '../sign-in/sign-in.ts'
import { forgetCertificates, keptDirectory } from '../ssh/kept.ts'
import { ask } from './ask.ts'
import { show, type Perform } from './verb.ts'

export const perform: Perform = async (call) => {
  const { values, directory, print } = call
  const stopping = new AbortController()
  const stop = () => stopping.abort()
  for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(name, stop)
  try {
    const told = await signIn({
      ask: (question) => ask(directory, question), provider: values.provider, timers: systemTimers, stopping: stopping.signal,
      onAddress(address, ownerUid) {
        print.err(`Sign in with your browser (waiting 5 minutes; Ctrl-C calls it off):\n\n  ${address}\n`)
        if (values['no-browser'] !== true) openBrowser(address, ownerUid).catch((cause: unknown) => print.err(`No browser could be opened: ${String(cause)}`))
      },
    })
    // Of whoever was signed in before.
    await forgetCertificates(keptDirectory())
    show(call, told, describeSignIn(told))
    return 0
  } finally {
    for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.off(name, stop)
  }
}

// One order at a public CA, in a thread of its own: the ACME library brings another copy of the X.509 library, and both would register in one place.
import { createServer } from 'node:http'
import { Agent } from 'node:https'
import { parentPort, workerData } from 'node:worker_threads'
import acme from 'acme-client'
import type { AcmeOrder, AcmeOutcome } from './acme.ts'

const PREFIX = '/.well-known/acme-challenge/'

async function order({ directory, contact, hosts, account, ca, challengePort }: AcmeOrder): Promise<AcmeOutcome> {
  if (ca !== null) acme.axios.defaults.httpsAgent = new Agent({ ca })
  const answers = new Map<string, string>()
  // Open while the order lasts, and for its challenges only.
  const server = createServer({ headersTimeout: 5_000, requestTimeout: 5_000, maxHeaderSize: 8_192 }, (request, response) => {
    const answer = request.url?.startsWith(PREFIX) === true ? answers.get(request.url.slice(PREFIX.length)) : undefined
    response.writeHead(answer === undefined ? 404 : 200, { 'content-type': 'text/plain' }).end(answer ?? '')
  })
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(challengePort, resolve)
  })
  try {
    const [key, csr] = await acme.crypto.createCsr({ altNames: [...hosts] }, await acme.crypto.createPrivateEcdsaKey('P-256'))
    const client = new acme.Client({ directoryUrl: directory, accountKey: account.privateKey, ...(account.url === null ? {} : { accountUrl: account.url }) })
    const certificate = await client.auto({
      csr, termsOfServiceAgreed: true, challengePriority: ['http-01'], skipChallengeVerification: true, ...(contact === null ? {} : { email: contact }),
      challengeCreateFn: (_authorization, { token }, answer) => Promise.resolve(void answers.set(token, answer)),
      challengeRemoveFn: (_authorization, { token }) => Promise.resolve(void answers.delete(token)),
    })
    return { ok: true, cert: certificate, key: key.toString(), accountUrl: client.getAccountUrl() }
  } finally {
    server.close()
    server.closeAllConnections()
  }
}

const outcome = await order(workerData as AcmeOrder).catch((cause: unknown): AcmeOutcome => ({ ok: false, reason: cause instanceof Error ? cause.message : String(cause) }))
// oxlint-disable-next-line unicorn/require-post-message-target-origin -- a port between threads has no origin
parentPort?.postMessage(outcome)

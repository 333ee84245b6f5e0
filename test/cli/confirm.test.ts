// Asking on a terminal: what counts as a yes, and that the terminal is let go afterwards.
import { PassThrough } from 'node:stream'
import { describe, expect, it } from 'vitest'
import { confirm } from '../../cli/confirm.ts'

function ask(answer: string | null) {
  const terminal = Object.assign(new PassThrough(), { isTTY: true })
  const err = new PassThrough()
  if (answer === null) terminal.end()
  else terminal.write(answer)
  return { terminal, err, asked: confirm({ in: terminal, err }, false, () => Promise.resolve('Really?')) }
}

describe('a question', () => {
  for (const answer of ['y\n', 'Yes\n', ' yes \r\n']) {
    it(`is answered with yes by ${JSON.stringify(answer)}, while the terminal stays open`, async () => {
      const { terminal, err, asked } = ask(answer)
      await asked
      expect((err.read() as Buffer).toString()).toBe('Really? [y/N] ')
      expect([terminal.isPaused(), terminal.listenerCount('data')]).toEqual([true, 0])
    })
  }
  for (const answer of ['\n', 'n\n', 'no\n', 'yesterday\n', null]) {
    it(`is not answered with yes by ${JSON.stringify(answer)}`, async () => {
      const { terminal, asked } = ask(answer)
      await expect(asked).rejects.toThrow('Nothing was changed.')
      // Else the process would wait on it.
      expect([terminal.isPaused(), terminal.listenerCount('data')]).toEqual([true, 0])
    })
  }
})

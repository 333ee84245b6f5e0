// The end of a program that has closed all it had. Left to itself, Node may spin for ever while it takes its environment down
// (nodejs/node#47748: seen at one end of `npm start` in six): a daemon that burns a core until somebody kills it.

/** Ends the process once what it wrote has left it. Nothing runs after this: close everything first. */
export async function endProcess(code: number): Promise<never> {
  for (const stream of [process.stdout, process.stderr]) {
    // Where the reader has gone, or the program has closed it, the callback comes with the error.
    stream.on('error', () => undefined)
    await new Promise<void>((resolve) => { stream.write('', () => resolve()) })
  }
  process.exit(code)
}

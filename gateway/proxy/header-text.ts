// Names as a header carries them: what is not printable ASCII is percent-encoded, and so are the percent sign and the comma, so that decoding gives each name back whole.

/** Servers refuse headers of 8 KB, and there are others beside this one. */
const MAX_LIST = 3_072

export const headerText = (text: string): string => text.replaceAll(/[^\x21-\x24\x26-\x2b\x2d-\x7e]/gu, encodeURIComponent)

/** The first names of a list that fit into a header. */
export function listedForHeader(names: readonly string[]): string[] {
  const fitting: string[] = []
  let length = 0
  for (const name of names) {
    length += headerText(name).length + 1
    if (length > MAX_LIST) break
    fitting.push(name)
  }
  return fitting
}

// Writes a file that somebody named. What is there already is not overwritten by accident.
import { writeFile } from 'node:fs/promises'

/** @param force overwrite what is there */
export async function saveText(path: string, text: string, force: boolean): Promise<void> {
  try {
    await writeFile(path, text, { flag: force ? 'w' : 'wx' })
  } catch (cause) {
    const { code = 'unknown' } = cause as NodeJS.ErrnoException
    throw new Error(code === 'EEXIST' ? `${path} is there already: --force overwrites it.` : `${path} can not be written (${code}).`, { cause })
  }
}

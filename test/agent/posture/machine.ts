// A machine laid out as files.
import { mkdir, symlink, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { temporaryDirectory } from '../agent-under-test.ts'

/** A machine's file system of the given files; `→` makes a link, a final `/` a directory. */
export async function machine(files: Record<string, string>): Promise<string> {
  const root = await temporaryDirectory()
  await addFiles(root, files)
  return root
}

export async function addFiles(root: string, files: Record<string, string>): Promise<void> {
  for (const [path, content] of Object.entries(files)) {
    const at = join(root, path)
    await mkdir(path.endsWith('/') ? at : dirname(at), { recursive: true })
    if (path.endsWith('/')) continue
    if (content.startsWith('→')) await symlink(content.slice(1), at)
    else await writeFile(at, content, 'latin1')
  }
}

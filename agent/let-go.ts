// What deregistration means on the device: certificate, keys, documents and memory of reports go; the user's own entries stay theirs.
import { removePrivateFile } from '../node/key-store.ts'
import { filesIn } from './state.ts'

export async function letGo(directory: string): Promise<void> {
  const files = filesIn(directory)
  // The enrolment last: a crash in between is finished by the next start, which finds it and is refused again.
  for (const path of [...Object.values(files).filter((file) => file !== files.enrolment), files.enrolment]) await removePrivateFile(path)
}

// Browsers on Linux: the user's NSS databases, and the policy files of the machine's browsers.
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { StoreFailure, type BrowserStores } from '../browser-store.ts'
import { FILE, selectInChromium } from './chromium-policy.ts'
import { findDatabases } from './find-databases.ts'
import { selectInFirefox } from './firefox-policy.ts'
import { openNssDatabase } from './nss-database.ts'
import { runAs, type Owner, type RunAsOwner } from './owner.ts'

/** Chromium's directory is made where it is missing; those of the others are there once the browser is installed. */
const chromiums = [{ directory: 'etc/chromium', always: true }, { directory: 'etc/chromium-browser', always: false }, { directory: 'etc/opt/chrome', always: false }, { directory: 'etc/opt/edge', always: false }]

/** @param root where the machine's file system begins */
export function linuxStores(owner: Owner, root: string, run: RunAsOwner = runAs(owner)): BrowserStores {
  const chromiumFiles = chromiums.filter(({ directory, always }) => always || existsSync(join(root, directory))).map(({ directory }) => join(root, directory, 'policies/managed', FILE))
  const firefoxFile = join(root, 'etc/firefox/policies/policies.json')
  return {
    user: owner.account,
    find: async () => (await findDatabases(owner.home, run)).map((directory) => openNssDatabase(directory, owner, run)),
    open: (directory) => openNssDatabase(directory, owner, run),
    async select(uid, hosts) {
      const done = await Promise.allSettled([...chromiumFiles.map((path) => selectInChromium(path, uid, hosts)), selectInFirefox(firefoxFile, hosts.length > 0)])
      const failures = done.flatMap((each) => (each.status === 'rejected' ? [each.reason as unknown] : []))
      const defect = failures.find((cause) => !(cause instanceof StoreFailure))
      if (defect !== undefined) throw defect
      return failures.map((cause) => (cause as StoreFailure).message)
    },
    policyFiles: [...chromiumFiles, firefoxFile],
  }
}

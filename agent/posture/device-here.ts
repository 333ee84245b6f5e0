// The device as this system shows it: which stores it has, and who can be asked for them.
import { userInfo } from 'node:os'
import type { Device } from '../../domain/tagging/device.ts'
import type { Timers } from '../../node/timers.ts'
import { createDevice } from './device.ts'
import { linuxCertificates } from './linux/certificate-stores.ts'
import { macosCertificates } from './macos/certificate-stores.ts'
import { osTypeHere } from './portable.ts'
import type { RunCommand } from './read.ts'
import { windowsCertificates } from './windows/certificate-stores.ts'
import { windowsRegistry } from './windows/registry.ts'

export function deviceHere({ root, ownerUid, run, now, timers }: { root: string; ownerUid: number; run: RunCommand; now: () => number; timers: Timers }): Device {
  const on = { root, now, timers }
  switch (osTypeHere()) {
    case 'linux': return createDevice({ ...on, certificates: linuxCertificates(root, ownerUid) })
    case 'windows': return createDevice({ ...on, certificates: windowsCertificates(run), registryValue: windowsRegistry(run, userInfo().username) })
    case 'macos': return createDevice({ ...on, certificates: macosCertificates(run) })
  }
}

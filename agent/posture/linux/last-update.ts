// When the system was last brought up to date, by the package manager's own log, and whether it waits for a restart.
import { open } from 'node:fs/promises'
import { join } from 'node:path'
import type { Sections } from '../../../protocol/facts.ts'
import { createKept } from '../kept.ts'
import { isThere, readNames, tellsOfFile, type RunCommand } from '../read.ts'

/** A day of upgrades is a few hundred kilobytes; older ones do not matter when there is a newer. */
const MAX_LOG_BYTES = 4 * 1024 * 1024

/** The last `upgrade` of dpkg's log (ms), whose times are local ones; null when it tells of none. A package put in place again is no update. */
export function lastUpgrade(log: string): number | null {
  for (const row of log.split('\n').reverse()) {
    const [, day, time, before, after] = /^(\d{4}-\d{2}-\d{2}) (\d{2}:\d{2}:\d{2}) upgrade \S+ (\S+) (\S+)$/.exec(row) ?? []
    const at = day === undefined || before === after ? Number.NaN : new Date(`${day}T${time ?? ''}`).getTime()
    if (!Number.isNaN(at)) return at
  }
  return null
}

/** The latest of rpm's times of installation, in seconds, one a line. */
export function lastInstalled(times: string): number | null {
  const latest = times.split('\n').reduce((most, row) => (/^\d{1,11}$/.test(row) ? Math.max(most, Number(row)) : most), 0)
  return latest === 0 ? null : latest * 1000
}

/** The end of a log; null when it is not there or not for us. */
async function readEnd(path: string): Promise<string | null> {
  try {
    await using file = await open(path, 'r')
    const { size } = await file.stat()
    const bytes = Buffer.alloc(Math.min(size, MAX_LOG_BYTES))
    const { bytesRead } = await file.read(bytes, 0, bytes.length, size - bytes.length)
    return bytes.toString('utf8', 0, bytesRead)
  } catch (cause) {
    if (tellsOfFile(cause)) return null
    throw cause
  }
}

/** @param root where the machine's file system begins */
export function linuxUpdates(root: string, run: RunCommand): () => Promise<Sections['updates'] | null> {
  const kept = createKept<number | null>()
  const logs = ['var/log/dpkg.log', 'var/log/dpkg.log.1'].map((path) => join(root, path))
  const rpms = ['var/lib/rpm', 'usr/lib/sysimage/rpm'].map((path) => join(root, path))

  async function installedAt(): Promise<number | null> {
    for (const path of logs) {
      const at = await kept(path, [path], async () => lastUpgrade(await readEnd(path) ?? ''))
      if (at !== null) return at
    }
    const databases = (await Promise.all(rpms.map(async (path) => (await readNames(path) ?? []).map((name) => join(path, name))))).flat()
    return databases.length === 0 ? null : await kept('rpm', databases, async () => lastInstalled(await run('rpm', ['-qa', '--qf', '%{INSTALLTIME}\n']) ?? ''))
  }

  async function restartPending(): Promise<boolean | null> {
    if (await isThere(join(root, 'run/reboot-required'))) return true
    // Its absence says something only where something would have put it there.
    const tells = await Promise.all(['usr/share/update-notifier/notify-reboot-required', 'etc/kernel/postinst.d/unattended-upgrades'].map((path) => isThere(join(root, path))))
    return tells.includes(true) ? false : null
  }

  return async () => {
    const [at, pending] = [await installedAt(), await restartPending()]
    return at === null && pending === null ? null : { ...(at === null ? {} : { installedAt: at }), ...(pending === null ? {} : { restartPending: pending }) }
  }
}

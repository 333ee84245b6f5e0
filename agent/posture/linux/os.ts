// The system: its name and version as it states them, and its kernel.
import { arch, release } from 'node:os'
import { join } from 'node:path'
import type { Sections } from '../../../protocol/facts.ts'
import { asLine, readText } from '../read.ts'

/** `KEY=value` lines of os-release(5), quotes and backslashes taken away. */
export function parseOsRelease(text: string): Map<string, string> {
  return new Map(text.split('\n').flatMap((row) => {
    const found = /^([A-Z0-9_]+)=(.*)$/.exec(row.trim())
    return found === null ? [] : [[found[1] ?? '', (found[2] ?? '').replace(/^(["'])(.*)\1$/, '$2').replaceAll(/\\(.)/g, '$1')] as const]
  }))
}

/** @param root where the machine's file system begins */
export async function linuxOs(root: string): Promise<Sections['os']> {
  const fields = parseOsRelease(await readText(join(root, 'etc/os-release')) ?? await readText(join(root, 'usr/lib/os-release')) ?? '')
  // Debian states only the major version there; the point release is in a file of its own.
  const debian = fields.get('ID') === 'debian' ? asLine(await readText(join(root, 'etc/debian_version')) ?? '', 64) : ''
  return {
    type: 'linux', name: asLine(fields.get('NAME') ?? '', 128) || 'Linux', version: /^\d/.test(debian) ? debian : asLine(fields.get('VERSION_ID') ?? '', 64),
    kernel: asLine(release(), 128), architecture: asLine(arch(), 32),
  }
}

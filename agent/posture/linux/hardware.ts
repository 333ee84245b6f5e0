// The machine: maker, model, serial, processor, memory. Serials that makers leave unfilled are dropped, not reported.
import { cpus, hostname, totalmem } from 'node:os'
import { join } from 'node:path'
import type { Sections } from '../../../protocol/facts.ts'
import { asLine, readText } from '../read.ts'

/** Texts that stand in firmware where nobody filled in anything: a thousand machines would share them. */
const junk = /^(to be filled( by o\.?e\.?m\.?)?|default( string)?|system (serial number|product name|manufacturer|version)|not (specified|available|applicable)|none|n\/?a|unknown|oem|o\.e\.m\.|invalid|empty|[0 .x-]*|123456789\d*|1234567|\.+)$/i

export const meaningful = (text: string): string => (junk.test(text.trim()) ? '' : asLine(text, 128))

/** @param root where the machine's file system begins */
export async function linuxHardware(root: string): Promise<Sections['hardware']> {
  const dmi = async (name: string) => meaningful(await readText(join(root, 'sys/class/dmi/id', name)) ?? '')
  const processors = cpus()
  return {
    hostName: asLine(hostname(), 253) || 'localhost',
    manufacturer: await dmi('sys_vendor'), model: await dmi('product_name'),
    // Readable by root only: an agent without rights reports none.
    serial: await dmi('product_serial') || await dmi('board_serial'),
    cpu: asLine(processors[0]?.model ?? '', 128), cores: processors.length, memoryBytes: totalmem(),
  }
}

// What Node itself tells on macOS and Windows: system, network, hardware. Software, security and vulnerabilities stay missing there: unknown, not empty.
import { getServers } from 'node:dns'
import { arch, cpus, hostname, networkInterfaces, platform, release, totalmem, version } from 'node:os'
import { isIP } from 'node:net'
import type { OsType, Sections } from '../../protocol/facts.ts'
import { connected } from './linux/network.ts'
import { asLine } from './read.ts'

export const osTypeHere = (): OsType => (platform() === 'win32' ? 'windows' : platform() === 'darwin' ? 'macos' : 'linux')

export const portableOs = (): Sections['os'] => ({
  type: osTypeHere(), name: asLine(version(), 128) || platform(), version: asLine(release(), 64), kernel: asLine(release(), 128), architecture: asLine(arch(), 32),
})
export const portableNetwork = (): Sections['network'] => ({
  interfaces: connected(networkInterfaces(), () => true), defaultGateways: [],
  dnsServers: getServers().map((server) => server.replace(/^\[(.*)\](:\d+)?$/, '$1').split('%')[0] ?? '').filter((server) => isIP(server) !== 0).slice(0, 16),
})
export const portableHardware = (): Sections['hardware'] => ({
  hostName: asLine(hostname(), 253) || 'localhost', manufacturer: '', model: '', serial: '',
  cpu: asLine(cpus()[0]?.model ?? '', 128), cores: cpus().length, memoryBytes: totalmem(),
})

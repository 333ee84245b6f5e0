// The login names that a verified user gets at a host. A name that is not certainly the user's own is none: whoever bears it logs in by it.
import type { VerifiedUser } from '../../protocol/identity.ts'
import type { SshService } from './ssh-service.ts'

/** What a certificate may bear: neither an option (`-`), a path, a pattern, nor a list, whatever file or command a host looks it up with. */
export const principalShape = /^[A-Za-z0-9_][A-Za-z0-9._+@|:-]{0,253}$/
/** What is a login name on every system; a numeric one would be taken for a user id. */
const loginShape = /^[a-z_][a-z0-9._-]{0,31}$/
/** Accounts that systems come with. An address like backup@ or git@ is easily had, and must not open them unless the service lists the name. */
const reserved = new Set([
  'root', 'toor', 'daemon', 'bin', 'sys', 'sync', 'games', 'man', 'lp', 'mail', 'news', 'uucp', 'proxy', 'www-data', 'backup', 'list', 'irc', 'gnats', 'nobody', 'adm', 'shutdown', 'halt', 'operator', 'ftp', 'sshd', 'dbus', 'polkitd',
  'wheel', 'sudo', 'admin', 'administrator', 'apache', 'nginx', 'http', 'mysql', 'postgres', 'redis', 'git', 'docker', 'ansible', 'jenkins', 'ubuntu', 'debian', 'ec2-user', 'centos', 'fedora', 'vagrant', 'deploy', 'service', 'guest', 'default',
])
export const isReservedLogin = (name: string): boolean => {
  const plain = name.toLowerCase()
  return reserved.has(plain) || plain.startsWith('systemd-') || plain.startsWith('_')
}

function derive({ principal, emailDomains }: SshService, { email, subject }: VerifiedUser): string | null {
  if (principal === 'subject') return subject
  const [local, domain, ...more] = (email ?? '').split('@')
  if (local === undefined || domain === undefined || more.length > 0) return null
  if (emailDomains.size > 0 && !emailDomains.has(domain.toLowerCase())) return null
  if (principal === 'email') return `${local}@${domain.toLowerCase()}`
  const name = local.toLowerCase()
  return loginShape.test(name) ? name : null
}

/** The principals of a user at a service: the user's own first, then those that the service gives to all it lets in. null: no name is certainly the user's. */
export function principalsOf(ssh: SshService, user: VerifiedUser): readonly string[] | null {
  if (ssh.issuers.size > 0 && !ssh.issuers.has(user.issuer)) return null
  const own = derive(ssh, user)
  if (own === null || !principalShape.test(own) || (isReservedLogin(own) && !ssh.principals.includes(own))) return null
  return [...new Set([own, ...ssh.principals])]
}

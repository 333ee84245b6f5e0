// A packet filter to begin with: nftables rules that use the sets of the tags. The administrator edits and loads it; this program never writes a rule.
import { families, familyNames, setName } from './element.ts'
import { TABLE } from './kernel-sets.ts'

/**
 * The template as text for `nft -f`; loading it again replaces it.
 * @param tags every tag to declare sets for
 * @param tag the one that opens the protected ranges
 */
export function filterTemplate(tags: readonly string[], tag: string): string {
  const declared = [...new Set([tag, ...tags])].sort()
  const sets = declared.flatMap((name) => familyNames.map((family) => `  set ${setName(family, name)} { type ${families[family]}; flags timeout; comment "${name}"; }`))
  const rules = (['ip', 'ip6'] as const).flatMap((protocol) => {
    const [set, protectedRange] = protocol === 'ip' ? [setName('ip4', tag), '$protected4'] : [setName('ip6', tag), '$protected6']
    return [
      `    ${protocol} saddr @${set} ${protocol} daddr ${protectedRange} accept`,
      `    ${protocol} daddr ${protectedRange} ct direction reply ct state established,related accept`,
      `    ${protocol} daddr ${protectedRange} drop`,
      `    ${protocol} saddr ${protectedRange} ct state invalid drop`,
      `    ${protocol} saddr ${protectedRange} ct direction reply ${protocol} daddr != @${set} drop`,
    ]
  })
  return `#!/usr/sbin/nft -f
# Devices with the tag "${tag}" reach the protected ranges through this host; nobody else does.
# Edit the ranges, then load this file. "gateway run --firewall" fills the sets, and closes them when it may no longer vouch for what is in them.
# Each packet is checked, those of open connections too: a device that loses the tag is cut in the middle of one.
# A set of MACs stands for devices on a link of this host: "ether saddr @${setName('mac', tag)}".

define protected4 = { 10.0.0.0/24 }
define protected6 = { fd00::/64 }

add table inet ${TABLE}
add chain inet ${TABLE} access { type filter hook forward priority filter; policy accept; }
flush chain inet ${TABLE} access

table inet ${TABLE} {
${sets.join('\n')}

  chain access {
${rules.join('\n')}
  }
}
`
}

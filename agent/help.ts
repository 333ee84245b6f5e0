// What `agent --help` says.
import { settings } from './posture/user-said.ts'

export const help = `Usage: agent VERB [--state DIR]

  enrol INVITATION [--user NAME] [--tls-ca FILE]
                                     enrol this machine with the EMS that the invitation names
  run [--transparent]                report, follow the profile and serve the local proxy until SIGTERM;
                                     --transparent: programs without proxy settings too (as root on Linux)
  status [--json]                    what the running agent is doing: who is signed in, profile, channel, proxy, tags, refusals, troubles
  sign-in [--provider NAME] [--no-browser] [--json]
                                     have an identity provider vouch for you, in your browser
  sign-out [--json]                  take that back: nobody is signed in on this machine any more
  ssh [USER@]HOST[:PORT] [-- OPTIONS COMMAND…]
                                     a session by the system's ssh, through the gateway, with a certificate of a few minutes;
                                     what follows -- is ssh's; its exit code is passed on
  ssh-config [PATTERN…]              lines for ~/.ssh/config, so that plain ssh, git, scp and rsync do the same;
                                     for hosts like PATTERN, else for all that a gateway leads to
  ssh-certificate HOST [PORT] [--match] [--json]
                                     what those lines call: keeps a certificate for a host, renewed when less than a third is left
  connect HOST:PORT                  standard input and output to a destination through the local proxy (a ProxyCommand)
  pac                                the address of the PAC file for a browser's settings; keep it to yourself
  explain SUBJECT [--json]           why a tag (by name or id) is as it is, or why a decision (by id) was taken
  set NAME=VALUE …                   what you say of yourself: ${settings.join(', ')}; an empty value takes it back

Examples:
  agent enrol sp1.eyJlbXMi…
  sudo agent enrol sp1.eyJlbXMi… --user ada --state /var/lib/sallyport
  agent run --state /var/lib/sallyport
  agent status --json
  agent sign-in --state /var/lib/sallyport
  agent sign-in --provider okta --no-browser
  agent ssh ada@build.corp.example
  agent ssh build.corp.example:2222 -- -t top
  agent ssh-config '*.corp.example' >> ~/.ssh/config
  ssh -o ProxyCommand='agent connect %h:%p' build.corp.example
  chromium --proxy-pac-url="$(agent pac)"
  agent explain compliant
  agent explain D0123456789AB-0123456789ABCDEF --json
  agent set fullName="Ada Lovelace" email=ada@example.com avatar=/home/ada/me.png social=github:ada,mastodon:ada@example.org

The local proxy serves one user of this machine: --user (a name or a user id), else whoever enrols it. An agent that runs as root
answers that user too: status, sign-in and the others need no sudo.
State is kept in --state, else in SALLYPORT_STATE, else in ~/.sallyport-agent. Who has none there asks the agent of the machine,
whose state is in /var/lib/sallyport.
An additional TLS root comes from --tls-ca, else from SALLYPORT_TLS_CA.
Exit codes: 0 done, 1 failed, 2 wrong usage.
`

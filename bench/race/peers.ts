// The peers in the race, haproxy and nginx as Debian packages them, with the configuration that they run by. One thread or worker each.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { openSync, closeSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { connect, createServer, type AddressInfo } from 'node:net'
import { join } from 'node:path'
import type { Column } from './gate.ts'
import type { SourcePorts } from './source.ts'

export interface PeerFiles {
  readonly directory: string
  /** PEM: the server's certificate with its chain, its key, and both in one file. */
  readonly certificate: string; readonly key: string; readonly both: string
  readonly authority: string
  /** Common names that may pass, in the full column. */
  readonly allowed: readonly string[]
}
export interface Peer { readonly tcp: number; readonly https: number; readonly pid: number; stop(): Promise<void> }
export const peerNames = ['haproxy', 'nginx'] as const
export type PeerName = (typeof peerNames)[number]

/** Two ports that were free a moment ago. */
async function freePorts(): Promise<[number, number]> {
  const servers = [createServer(), createServer()]
  const ports: number[] = []
  for (const server of servers) {
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    ports.push((server.address() as AddressInfo).port)
  }
  for (const server of servers) server.close()
  return [ports[0] ?? 0, ports[1] ?? 0]
}

interface Ports { readonly tcp: number; readonly https: number; readonly source: SourcePorts }

const haproxyText = ({ both, authority, directory }: PeerFiles, { tcp, https, source }: Ports, column: Column): string => {
  const bind = `ssl crt ${both} ca-file ${authority} verify required ssl-min-ver TLSv1.3`
  const known = `{ ssl_c_s_dn(cn) -f ${join(directory, 'allowed')} }`
  return `global
  nbthread 1
  maxconn 9000
  ${column === 'full' ? 'log stdout format raw local0' : ''}
defaults
  timeout connect 10s
  timeout client 600s
  timeout server 600s
  timeout tunnel 600s
  ${column === 'full' ? 'log global' : ''}
frontend tunnels
  mode tcp
  bind 127.0.0.1:${tcp} ${bind}
  ${column === 'full' ? `option tcplog\n  tcp-request content reject unless ${known}` : ''}
  default_backend tcp
backend tcp
  mode tcp
  server source 127.0.0.1:${source.tcp}
frontend requests
  mode http
  bind 127.0.0.1:${https} ${bind} alpn http/1.1
  ${column === 'full' ? `option httplog\n  http-request deny unless ${known}\n  http-request set-header x-device %[ssl_c_s_dn(cn)]` : ''}
  default_backend http
backend http
  mode http
  http-reuse always
  server source 127.0.0.1:${source.http}
`
}

const nginxText = ({ certificate, key, authority, directory, allowed }: PeerFiles, { tcp, https, source }: Ports, column: Column): string => {
  const tls = `ssl_certificate ${certificate};\n    ssl_certificate_key ${key};\n    ssl_client_certificate ${authority};\n    ssl_verify_client on;\n    ssl_protocols TLSv1.3;`
  const map = (name: string, yes: string, no: string) => (column === 'bare' ? '' : `map_hash_max_size 8192;\n  map_hash_bucket_size 128;\n  map $ssl_client_s_dn ${name} {\n    default ${no};\n${allowed.map((name) => `    "CN=${name}" ${yes};\n`).join('')}  }`)
  return `daemon off;
master_process off;
worker_processes 1;
worker_rlimit_nofile 20000;
pid ${join(directory, 'nginx.pid')};
error_log ${join(directory, 'nginx-error.log')} ${column === 'full' ? 'error' : 'crit'};
load_module /usr/lib/nginx/modules/ngx_stream_module.so;
events { worker_connections 19000; }
stream {
  ${map('$target', `127.0.0.1:${source.tcp}`, '127.0.0.1:1')}
  ${column === 'full' ? `log_format line '$remote_addr $ssl_client_s_dn $status $bytes_sent $bytes_received $session_time';\n  access_log ${join(directory, 'stream.log')} line;` : 'access_log off;'}
  server {
    listen 127.0.0.1:${tcp} ssl backlog=4096;
    ${tls}
    proxy_timeout 600s;
    tcp_nodelay on;
    proxy_pass ${column === 'full' ? '$target' : `127.0.0.1:${source.tcp}`};
  }
}
http {
  ${map('$known', '1', '0')}
  access_log ${column === 'full' ? join(directory, 'access.log') : 'off'};
  upstream source {
    server 127.0.0.1:${source.http};
    keepalive 64;
    keepalive_requests 1000000;
  }
  keepalive_requests 1000000;
  server {
    listen 127.0.0.1:${https} ssl backlog=4096;
    ${tls}
    location / {
      ${column === 'full' ? 'if ($known = 0) { return 403; }\n      proxy_set_header x-device $ssl_client_s_dn;' : ''}
      proxy_http_version 1.1;
      proxy_set_header connection "";
      proxy_pass http://source;
    }
  }
}
`
}

async function listens(port: number, gone: () => boolean): Promise<void> {
  for (;;) {
    if (gone()) throw new Error('a peer ended before it listened; its log is on standard error')
    const socket = connect(port, '127.0.0.1')
    const up = await new Promise<boolean>((resolve) => {
      socket.once('connect', () => resolve(true))
      socket.once('error', () => resolve(false))
    })
    socket.destroy()
    if (up) return
    await new Promise((resolve) => { setTimeout(resolve, 20) })
  }
}

/** Starts a peer on the first core. @throws Error when it does not come up */
export async function startPeer(name: PeerName, files: PeerFiles, source: SourcePorts, column: Column): Promise<Peer> {
  const [tcp, https] = await freePorts()
  const configuration = join(files.directory, `${name}.conf`)
  await writeFile(join(files.directory, 'allowed'), files.allowed.join('\n'))
  await writeFile(configuration, (name === 'haproxy' ? haproxyText : nginxText)(files, { tcp, https, source }, column))
  const out = openSync(join(files.directory, `${name}.log`), 'a')
  const child = spawn('taskset', ['-c', '0', ...(name === 'haproxy' ? ['haproxy', '-db', '-f', configuration] : ['nginx', '-c', configuration])], { stdio: ['ignore', out, 'inherit'] })
  closeSync(out)
  let gone = false
  const ended = once(child, 'exit').then(() => { gone = true })
  await Promise.all([listens(tcp, () => gone), listens(https, () => gone)])
  return { tcp, https, pid: child.pid ?? 0, async stop() {
    child.kill('SIGKILL')
    await ended
  } }
}

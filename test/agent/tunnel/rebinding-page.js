// The page of the attacker, run by Chromium: everything that a page can say to a port of its own origin, and what it could read of the answers.
globalThis.attack = async ({ port, socksPort, direct }) => {
  const heard = {}
  const note = async (name, say, limitMs = 3_000) => {
    const silence = new Promise((resolve) => { setTimeout(() => resolve('silence'), limitMs) })
    heard[name] = await Promise.race([say(), silence]).catch((cause) => `error: ${String(cause)}`)
  }
  const read = async (response) => `${response.status} ${response.type} ${await response.text()}`
  const request = (line) => `${line} HTTP/1.1\r\nHost: wiki.corp.test\r\nConnection: keep-alive\r\n\r\n`
  const smuggled = `\r\n\r\n${request('GET http://wiki.corp.test/smuggled')}${request('CONNECT wiki.corp.test:80')}`
  // The one whose answer must be heard.
  await note('get', async () => await read(await fetch('/')), 60_000)
  await note('absolute in the path', async () => await read(await fetch('/http://wiki.corp.test/')))
  await note('two slashes', async () => await read(await fetch(`http://rebind.test:${port}//wiki.corp.test/`)))
  await note('direct destination in the path', async () => await read(await fetch(`/http://127.0.0.1:${direct}/`)))
  await note('smuggled in a body', async () => await read(await fetch('/', { method: 'POST', body: smuggled, headers: { 'content-type': 'text/plain' } })))
  await note('smuggled in a large body', async () => await read(await fetch('/', { method: 'POST', body: 'x'.repeat(200_000) + smuggled })))
  await note('many on one connection', async () => (await Promise.all(Array.from({ length: 20 }, (_, n) => fetch(`/${n}`).then(read)))).join(''))
  await note('own headers', async () => await read(await fetch('/', { headers: { 'x-forwarded-host': 'wiki.corp.test', 'proxy-authorization': 'x', 'x-http-method-override': 'CONNECT' } })))
  for (const method of ['CONNECT', 'connect', 'TRACE', 'OPTIONS', 'PROPFIND']) await note(`method ${method}`, async () => await read(await fetch('/', { method })))
  await note('127.0.0.1 by number', async () => await read(await fetch(`http://127.0.0.1:${port}/`)))
  await note('blind', async () => await read(await fetch(`http://127.0.0.1:${port}/http://wiki.corp.test/`, { mode: 'no-cors', method: 'POST', body: smuggled })))
  await note('https', async () => await read(await fetch(`https://rebind.test:${port}/`)))
  await note('socks', async () => await read(await fetch(`http://rebind.test:${socksPort}/`, { mode: 'no-cors', method: 'POST', body: Uint8Array.of(5, 1, 0, 5, 1, 0, 1, 127, 0, 0, 1, direct >> 8, direct & 255) })))
  await note('websocket', () => new Promise((resolve) => {
    const socket = new WebSocket(`ws://rebind.test:${port}/`)
    socket.addEventListener('open', () => resolve('open'))
    socket.addEventListener('close', () => resolve('closed'))
  }))
  await note('events', () => new Promise((resolve) => {
    const source = new EventSource('/')
    source.addEventListener('open', () => resolve('open'))
    source.addEventListener('error', () => resolve('closed'))
  }))
  await note('beacon', () => Promise.resolve(navigator.sendBeacon(`http://127.0.0.1:${port}/`, smuggled) ? 'sent' : 'not sent'))
  await note('form', () => new Promise((resolve) => {
    const form = Object.assign(document.createElement('form'), { method: 'post', action: '/http://wiki.corp.test/', target: 'frame', enctype: 'text/plain' })
    form.append(Object.assign(document.createElement('textarea'), { name: smuggled, value: smuggled }))
    document.body.append(form)
    const frame = document.querySelector('iframe')
    frame.addEventListener('load', () => resolve(frame.contentDocument?.body?.textContent ?? 'unreadable'))
    form.submit()
  }))
  return heard
}

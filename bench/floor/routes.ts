// The floors, by the Worker's own machinery: what no operation of this Worker can do without, and nothing of ours.
import { Hono } from 'hono'
import { handle, type Route } from '../../workers/http/mount.ts'
import { bare, FLOOR_ROWS, FLOOR_SUBPROTOCOL, floorFlip, floorSocket, signedOnly } from './operations.ts'
import type { FloorObject } from './object.ts'

export interface FloorEnv { readonly FLOOR: DurableObjectNamespace<FloorObject> }
const object = (env: object) => (env as FloorEnv).FLOOR.getByName('one')
const write = 'INSERT INTO bench_floor (id, value) VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET value = excluded.value'

/** One bare Hono handler. */
export const bareApp = new Hono().get(bare.path, (hono) => hono.json({ ok: true }))

export const floorRoutes: readonly Route[] = [
  handle(signedOnly, { run: () => Promise.resolve({ ok: true as const }) }),
  handle(floorFlip, {
    async run({ env, now }, { body }) {
      const at = now()
      await env.DB.batch(Array.from({ length: FLOOR_ROWS }, (_, id) => env.DB.prepare(write).bind(id, body.padding.slice(0, 64) + at)))
      await object(env).tell({ at })
      return { at }
    },
  }),
  handle(floorSocket, {
    run: ({ env }) => object(env).fetch('https://object/', { headers: { 'upgrade': 'websocket', 'sec-websocket-protocol': FLOOR_SUBPROTOCOL } }),
  }),
]

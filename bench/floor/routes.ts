// The floors, by the Worker's own machinery: what no operation of this Worker can do without, and nothing of ours.
import { Hono } from 'hono'
import { handle, type Route } from '../../workers/http/mount.ts'
import { bare, FLOOR_ROWS, FLOOR_SUBPROTOCOL, floorFlip, floorSocket, plainRead, signedOnly } from './operations.ts'
import type { FloorObject } from './object.ts'

export interface FloorEnv { readonly FLOOR: DurableObjectNamespace<FloorObject> }
const object = (env: object, n = 0) => (env as FloorEnv).FLOOR.getByName(`floor-${n}`)
const write = 'INSERT INTO bench_floor (id, value) VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET value = excluded.value'

/** One bare Hono handler. */
export const bareApp = new Hono().get(bare.path, (hono) => hono.json({ ok: true }))

export const floorRoutes: readonly Route[] = [
  handle(signedOnly, { run: () => Promise.resolve({ ok: true as const }) }),
  handle(floorFlip, {
    async run({ env, now }, { body }) {
      const at = now()
      await env.DB.batch(Array.from({ length: FLOOR_ROWS }, (_, id) => env.DB.prepare(write).bind(id, body.padding.slice(0, 64) + at)))
      await Promise.all(Array.from({ length: body.objects }, (_, n) => object(env, n).tell({ at })))
      return { at }
    },
  }),
  handle(floorSocket, {
    run: ({ env }, { query }) => object(env, query.object).fetch('https://object/', { headers: { 'upgrade': 'websocket', 'sec-websocket-protocol': FLOOR_SUBPROTOCOL } }),
  }),
  handle(plainRead, {
    async run({ env }, { query: { what, after, upTo, limit } }) {
      const pick = 'FROM endpoints WHERE uid > ? AND uid <= ? ORDER BY uid LIMIT ?'
      const select = (sql: string) => env.DB.prepare(sql).bind(after, upTo, limit)
      const statements = what === 'tags' ? [select(`SELECT uid, tags, last_report_at ${pick}`)] : [select(`SELECT * ${pick}`), select(`SELECT * FROM endpoint_sections WHERE uid IN (SELECT uid ${pick})`)]
      const [rows] = await env.DB.batch<{ uid: string }>(statements)
      return { rows: rows?.results.length ?? 0, last: rows?.results.at(-1)?.uid ?? null }
    },
  }),
]

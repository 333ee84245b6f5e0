// The envelope of every JSON answer on the fabric wire, and its paging fields.
import { z } from 'zod'

/** 1 ok; negative refused: -1 error, -2 not authorised, -5 not found, -6 bad input. The HTTP status says it too. */
export const retval = z.union([z.literal(1), z.literal(-1), z.literal(-2), z.literal(-5), z.literal(-6)])
export const result = z.object({ retval, message: z.string().optional() })
export const envelope = <D extends z.ZodType>(data: D) => z.object({ result, data })

/** Default and largest page, in bytes of uncompressed JSON. */
export const PAGE_BYTES = 2_097_152

/** An opaque watermark: `<revision>.<mark>` inside, `` before anything. A reader hands back what it got. */
export const watermark = z.string().max(64).regex(/^(|\d{1,16}\.[0-9a-f]{16})$/, 'hand back the watermark you were given')

/**
 * A watermark as a reader hands it back. One that is none of ours is no mistake of form: it is held of another history, and
 * nothing continues from it, so its reader is told everything.
 */
export const heldWatermark = z.string().max(256).transform((text) => watermark.safeParse(text).data ?? '')

const names = z.array(z.string().max(64)).max(1000)
/** Readers that narrow nothing send an empty list: it is as if it was left out. */
const named = (list: string[]): string[] | undefined => (list.length === 0 ? undefined : list)
export const serialList = names.transform(named).optional()
/** A list in a body; in a query separated by commas, or named again and again. */
const list = z.union([names, z.string().max(65_000).transform((text) => text.split(',').filter(Boolean)).pipe(names)]).transform(named).optional()
/**
 * Parameters of every report table, in the query of a GET or the body of a POST. `sn_list` narrows the answer to endpoints of these
 * gateways: the caller itself, or members it vouched for; any other serial stands for nothing.
 */
export const reportQuery = z.object({
  sn_list: list,
  uid_list: list,
  updated_after: heldWatermark.optional(),
  uid_offset: z.string().max(64).optional(),
  fingerprint_offset: z.string().max(64).optional(),
  tag_uid_offset: z.string().max(64).optional(),
  /** A page has one row at least and {@link PAGE_BYTES} at most, whatever is asked. */
  unzipped_size: z.union([z.number(), z.string().regex(/^\d{1,15}$/, 'must be a number').transform(Number)]).pipe(z.number().int().min(1)).optional(),
})
export type ReportQuery = z.infer<typeof reportQuery>

/** One page of a report table. `updated_after` and the offset are handed back to get the next one. */
export const page = <D extends z.ZodType>(data: D) => z.object({
  updated_after: z.string(),
  uid_offset: z.string().optional(),
  fingerprint_offset: z.string().optional(),
  tag_uid_offset: z.string().optional(),
  is_final: z.boolean(),
  is_zipped: z.boolean(),
  unzipped_size: z.number().int(),
  /** True when this page begins a whole reload: the reader drops what it holds for this table (our addition). */
  is_snapshot: z.boolean(),
  /** UIDs that have left the reader's sight, in increments of tables by UID (our addition). */
  removed: z.array(z.string()).default([]),
  data,
})

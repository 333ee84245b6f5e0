// Every operation there is, for mounting, documentation and the suite that walks them all.
import type { Operation } from '../operation.ts'
import * as admin from './admin.ts'
import * as advisories from './advisories.ts'
import * as endpoint from './endpoint.ts'
import * as fabric from './fabric.ts'
import * as packs from './packs.ts'
import * as open from './public.ts'
import * as signIn from './sign-in.ts'
import * as signals from './signals.ts'
import * as tags from './tags.ts'

const isOperation = (value: unknown): value is Operation => typeof value === 'object' && value !== null && 'path' in value && 'caller' in value
/** Declared operations, those of report tables (a GET and a POST) spread out. */
export const operations: readonly Operation[] = [open, endpoint, admin, signals, tags, packs, advisories, signIn, fabric]
  .flatMap((group) => Object.values(group as Record<string, object>))
  .flatMap((value) => (isOperation(value) ? [value] : Object.values(value).filter(isOperation)))

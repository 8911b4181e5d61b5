/**
 * The first module of a thread (see thread.ts). What it imports by a statement would be compiled before it can say where
 * compiled code is kept.
 */
import { enableCompileCache, flushCompileCache } from 'node:module'

const [, , first, cache] = process.argv
if (cache) enableCompileCache(cache)
await import(first as string)
// a thread may be ended at any time, which keeps nothing
if (cache) flushCompileCache()

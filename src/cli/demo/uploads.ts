/**
 * Files that rows of a database name. An upload is written before its row is committed, and neither changed nor removed
 * later. So the order of copying is enough, without a window: who copies the database first and the uploads after it has
 * every upload that a row of that copy names.
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'

const ordersPerUpload = 250
const uploadsPerDirectory = 50

/** By which name the order's row knows it. */
export function uploadName(order: number): string {
  return `${Math.floor(order / ordersPerUpload / uploadsPerDirectory)}/order-${order}.txt`
}

/** Of orders that have one: each says something else, at another length. */
export function uploadOf(order: number): Buffer | undefined {
  if (order % ordersPerUpload !== 0) return undefined
  return Buffer.from(`Receipt of order ${order}\n`.repeat(1 + ((order / ordersPerUpload) % 300)))
}

export function writeUpload(directory: string, order: number, upload: Buffer): void {
  const path = join(directory, uploadName(order))
  mkdirSync(dirname(path), { recursive: true })
  writeFileSync(path, upload)
}

/** Proves that every upload that a row of the database names is in the directory, whole. Gives how many; throws. */
export function proveUploads(bank: string, directory: string): number {
  const database = new DatabaseSync(bank)
  try {
    const rows = database.prepare('SELECT id, upload FROM orders WHERE upload IS NOT NULL').all()
    for (const { id, upload } of rows) {
      const path = join(directory, String(upload))
      const expected = uploadOf(Number(id))
      if (expected?.equals(readFileSync(path)) !== true)
        throw new Error(`${path} is not the upload of order ${id}`)
    }
    return rows.length
  } finally {
    database.close()
  }
}

/** What stands in a file of transactions that were put aside, as it can be searched for. */
import { readSmallFile, type Storage } from '../../src/os/storage.ts'

export async function readTransactions(storage: Storage, path: string): Promise<string> {
  const bytes = await readSmallFile(storage, path, 1024 * 1024 * 1024)
  return bytes?.toString('latin1') ?? ''
}

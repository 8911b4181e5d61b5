import { DatabaseSync } from 'node:sqlite'

/** What the bank of the demo begins with. */
export const accounts = 1_000
export const openingBalance = 1_000

export interface BankState {
  /** Orders 1 to this are there, each with its effect on both accounts. */
  readonly orders: number
}

/**
 * Opens a database with the engine itself, and proves that it is the bank after some whole number of transactions.
 * Throws with what is wrong.
 */
export function proveBank(path: string): BankState {
  const database = new DatabaseSync(path)
  try {
    const one = (sql: string): unknown => Object.values(database.prepare(sql).get() ?? {})[0]
    const expect = (what: string, found: unknown, expected: unknown): void => {
      if (found !== expected) throw new Error(`${what}: expected ${expected}, found ${found}`)
    }
    expect('PRAGMA integrity_check', one('PRAGMA integrity_check'), 'ok')
    expect('the sum of all balances', one('SELECT sum(balance) FROM accounts'), accounts * openingBalance)
    const orders = Number(one('SELECT coalesce(max(id), 0) FROM orders'))
    expect('orders without a gap', one('SELECT count(*) FROM orders'), orders)
    const wrong = one(`
      WITH moved AS (
        SELECT payer AS id, -amount AS amount FROM orders UNION ALL SELECT payee, amount FROM orders
      ), due AS (SELECT id, sum(amount) AS amount FROM moved GROUP BY id)
      SELECT count(*) FROM accounts LEFT JOIN due USING (id)
      WHERE balance <> ${openingBalance} + coalesce(due.amount, 0)`)
    expect('accounts whose balance is not what their orders make it', wrong, 0)
    return { orders }
  } finally {
    database.close()
  }
}

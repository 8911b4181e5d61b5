/** The process of an `IntegrityProcess`: does what it is asked for, and ends with whoever asks. */
import { createInterface } from 'node:readline'
import type { DatabaseSync } from 'node:sqlite'
import { openDatabase } from './engine.ts'
import type { IntegrityAnswer, IntegrityRequest } from './integrity-process.ts'

let connection: DatabaseSync | undefined

function answer(request: IntegrityRequest): IntegrityAnswer {
  try {
    connection ??= openDatabase(process.argv[2] as string, { readOnly: true })
    if (request === 'check') {
      const rows = connection.prepare('PRAGMA integrity_check').all() as { integrity_check: string }[]
      return { messages: rows.map(row => row.integrity_check) }
    }
    if (request === 'end') {
      if (connection.isTransaction) connection.exec('ROLLBACK')
      return { messages: [] }
    }
    connection.exec('BEGIN')
    connection.prepare('PRAGMA schema_version').get()
    return { messages: [] }
  } catch (error) {
    const { message, code, errcode } = error as Error & { code?: string; errcode?: number }
    return {
      error: {
        message,
        ...(code === undefined ? {} : { code }),
        ...(errcode === undefined ? {} : { errcode }),
      },
    }
  }
}

for await (const line of createInterface(process.stdin)) {
  process.stdout.write(`${JSON.stringify(answer(line as IntegrityRequest))}\n`)
}
connection?.close()

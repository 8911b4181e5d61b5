/**
 * `node redis-writer.ts SOCKET PID`: commits numbered transactions to a Redis server at full speed, and lets it rewrite its
 * append-only file again and again. Prints the last number that the server acknowledged. Ends with the server.
 */
import * as fs from 'node:fs'
import { connect } from 'node:net'
import { askRedis } from './../resp.ts'
import { commandBytes, keysInTurn } from './redis-store.ts'

const [socketPath] = process.argv.slice(2)
if (socketPath === undefined) throw new Error('usage: redis-writer.ts SOCKET')
const transactionsAtOnce = 200
const rewriteEveryMs = 400

const reply = await askRedis(socketPath, 5000, 'GET', 'last')
let number = reply.kind === 'value' && reply.text !== '' ? Number(reply.text) : 0
let rewrittenMs = Date.now()

const socket = connect(socketPath)
socket.on('error', () => process.exit(0))
socket.on('close', () => process.exit(0))

function send(): void {
  const parts: string[] = []
  for (let i = 0; i < transactionsAtOnce; i++) {
    number++
    parts.push(
      commandBytes('MULTI'),
      commandBytes('SET', 'last', String(number)),
      commandBytes('SET', `key:${number % keysInTurn}`, `${number}:${'x'.repeat(number % 200)}`),
      commandBytes('EXEC'),
    )
  }
  if (Date.now() - rewrittenMs > rewriteEveryMs) {
    rewrittenMs = Date.now()
    parts.push(commandBytes('BGREWRITEAOF'))
  }
  // the reply to this one says that all before it was done
  parts.push(commandBytes('ECHO', `done ${number}`))
  socket.write(parts.join(''))
}

let said = ''
socket.on('data', data => {
  said = (said + data.toString('latin1')).slice(-1000)
  if (!said.includes(`done ${number}\r\n`)) return
  said = ''
  fs.writeSync(1, `${number}\n`)
  send()
})
send()
